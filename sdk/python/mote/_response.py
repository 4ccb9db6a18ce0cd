"""What a handler answers, in one form from many."""

import json

TEXT = "text/plain; charset=utf-8"
BYTES = "application/octet-stream"
JSON = "application/json"


class Response:
    """A body with a status and headers. Headers are a dict, or pairs when a name has several values."""

    def __init__(self, body=None, status: int = 200, headers=()):
        self.status = status
        self.headers = [(str(name), str(value)) for name, value in pairs_of(headers)]
        self.body, kind = encode(body)
        if kind and not any(name.lower() == "content-type" for name, _ in self.headers):
            self.headers.append(("content-type", kind))
        if isinstance(status, bool) or not isinstance(status, int) or not 200 <= status <= 599:
            raise ValueError(f"the status {status!r} is not a number from 200 to 599")

    def __repr__(self):
        return f"<Response {self.status} of {len(self.body)} bytes>"


def response_of(result) -> Response:
    """The response that a handler means."""
    if isinstance(result, Response):
        return result
    if not isinstance(result, tuple):
        return Response(result)
    match result:
        case (status, body):
            return Response(body, status)
        case (status, headers, body):
            return Response(body, status, headers)
    raise TypeError(f"the handler returned {len(result)} values; return (status, body) or (status, headers, body)")


def pairs_of(headers):
    """Pairs of a dict, or pairs."""
    return headers.items() if hasattr(headers, "items") else headers or ()


def encode(value):
    """Bytes of a body, and its media type."""
    match value:
        case None:
            return b"", None
        case str():
            return value.encode("utf-8", "replace"), TEXT
        case bytes() | bytearray() | memoryview():
            return bytes(value), BYTES
        case dict() | list():
            return json.dumps(value).encode(), JSON
    kind = type(value).__name__
    raise TypeError(f"the handler returned {kind}; return a Response, str, bytes, dict, list or None")
