"""One call, from the host's words to the host's words."""

import traceback

from mote import _host, log
from mote._request import Request
from mote._response import response_of

# Headers that belong to the connection (RFC 9110 §7.6.1) or that the node writes itself; it refuses them.
DOORS_OWN = {
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
}


def publish() -> None:
    """Makes this reply the published value of the called path and query: what observers are shown from now on.

    Without `observable = true` in the manifest it has no effect.
    """
    _host.response.publish()


def serve(handler, body: bytes) -> bytes:
    """Asks a handler; raises the host's error when there is no answer."""
    try:
        result = handler(Request(body))
        if hasattr(result, "__await__"):
            result = run(result)
        response = response_of(result)
    except Exception as error:
        log.error(traceback.format_exc().rstrip())
        raise _host.Err(text_of(error)) from None
    if response.status != 200:
        _host.response.set_status(response.status)
    for name, value in response.headers:
        if name.lower() not in DOORS_OWN:
            _host.response.set_header(name, value)
    return response.body


def run(coroutine):
    """The result of a coroutine that waits for nothing: there is no event loop, and calls of siblings block."""
    steps = coroutine.__await__()
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise RuntimeError("the handler awaits something that nobody does: there is no event loop in a function")


def text_of(error: BaseException) -> str:
    """What is said to the caller."""
    return str(error) or type(error).__name__


def handler_of(module):
    """`handle(request)` of a module, or `fn(input, headers)`, which takes and returns text."""
    handle = getattr(module, "handle", None)
    if callable(handle):
        return handle
    fn = getattr(module, "fn", None)
    if callable(fn):
        return lambda request: fn(request.text() or None, request.headers)
    raise AttributeError(f"{module.__name__} has no function `handle(request)`")
