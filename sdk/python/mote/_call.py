"""Calls of other functions of the same app.

A callee runs in its own memory and under its own limits, and has at most the time that is left to the caller.
"""

import json
from dataclasses import dataclass

from mote import _host
from mote._request import Headers
from mote._response import encode, pairs_of


class CallError(Exception):
    """Why there is no reply. `kind` is one of the platform's own kinds of failure, such as `not-found`."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


@dataclass
class Reply:
    """What a sibling answered. A status of 500 and more is a reply, too."""

    status: int
    headers: Headers
    body: bytes

    def text(self) -> str:
        return self.body.decode()

    def json(self):
        return json.loads(self.body)


class Pending:
    """A call that was started. It ends with the caller."""

    def __init__(self, handle):
        self._handle = handle

    def wait(self) -> Reply:
        """Waits for the reply. Can be asked once."""
        return _reply(self._handle.wait)


def call(function: str, target: str = "", *, method: str = "GET", headers=(), body=None) -> Reply:
    """Calls a sibling and waits for its reply.

    `target` is the path and query after its name: empty, or starting with `/` or `?`.
    """
    request = _request(function, target, method, headers, body)
    return _reply(lambda: _host.call.invoke(request))


def start(function: str, target: str = "", *, method: str = "GET", headers=(), body=None) -> Pending:
    """Begins a call, so that several run at once."""
    request = _request(function, target, method, headers, body)
    return Pending(_or_raise(lambda: _host.call.start(request)))


def spawn(function: str, target: str = "", *, method: str = "GET", headers=(), body=None) -> str:
    """Hands a call over to the node, which runs it on its own, and returns its id. Its reply goes nowhere."""
    request = _request(function, target, method, headers, body)
    return _or_raise(lambda: _host.call.spawn(request))


def _request(function, target, method, headers, body):
    content, kind = encode(body)
    pairs = [(str(name), str(value)) for name, value in pairs_of(headers)]
    if kind and not any(name.lower() == "content-type" for name, _ in pairs):
        pairs.append(("content-type", kind))
    return _host.call.Request(function, method, target, pairs, content)


def _reply(ask) -> Reply:
    reply = _or_raise(ask)
    return Reply(reply.status, Headers(reply.headers), reply.body)


def _or_raise(ask):
    try:
        return ask()
    except _host.Err as error:
        kind = error.value.kind.name.lower().replace("_", "-")
        raise CallError(kind, error.value.message) from None
