"""What a function in Python can do on a node.

A function is a file `handler.py` with a function `handle`:

    from mote import Response

    def handle(request):
        return Response(f"hello, {request.query.get('name', 'world')}")

A handler may also return str, bytes, a dict or a list, None, `(status, body)` or `(status, headers, body)`. An
exception ends the call with status 500, its text, and its traceback in the function's log.

`mote build` imports the module once and takes a snapshot of the memory: each call begins there. So what is computed
while it is imported costs no call anything, and what a call keeps in globals is gone after it; `mote.kv` keeps things.

Without a node, as in unit tests, the module works in the memory of the program.
"""

from mote import config, kv, log
from mote._call import CallError, Pending, Reply, call, spawn, start
from mote._request import Headers, Request
from mote._response import Response
from mote._serve import publish

__all__ = [
    "CallError",
    "Headers",
    "Pending",
    "Reply",
    "Request",
    "Response",
    "call",
    "config",
    "kv",
    "log",
    "publish",
    "spawn",
    "start",
]
