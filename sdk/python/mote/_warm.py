"""Calls that never were, before the snapshot of the memory is taken.

What CPython and the library set up when they first run is then there for every call, and code that ran a few times has
been specialised. It takes a tenth of the pages that a call touches.
"""

import gc

from mote import Response, _host, _local, log
from mote._serve import serve

# What the interpreter asks for until it specialises code, and some more.
CALLS = 50


def warm() -> None:
    real = _host.request, _host.response, _host.log
    _host.request, _host.response, _host.log = _local.request, _local.response, _Silence
    asked = _local.request.asked
    headers = [("host", "localhost"), ("accept", "*/*"), ("content-type", "text/plain")]
    _local.request.asked = _local.SimpleNamespace(
        method="POST", path="/path", query="name=value", headers=headers, id="none"
    )
    for _ in range(CALLS):
        _local.response.clear()
        serve(_answer, b"body")
    _local.request.asked = asked
    _host.request, _host.response, _host.log = real
    # A collection in a call would look at all that is here, and so touch it.
    gc.freeze()


class _Silence:
    Level = _local.log.Level

    @staticmethod
    def log(level, message):
        pass


def _answer(request):
    log.info(f"{request.method} {request.path}")
    kind = request.headers.get("content-type")
    return Response(f"{request.query.get('name')} {request.text()}", headers={"content-type": kind})
