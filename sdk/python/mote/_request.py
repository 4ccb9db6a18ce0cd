"""What a handler is told of a call."""

import json
from urllib.parse import parse_qsl

from mote import _host


class Headers(dict):
    """Headers by name, which may be written in any case; values of one name are joined by commas."""

    def __init__(self, pairs=()):
        super().__init__()
        for name, value in pairs:
            known = self.get(name)
            joint = "; " if name.lower() == "cookie" else ", "
            self[name] = value if known is None else known + joint + value

    def __getitem__(self, name):
        return super().__getitem__(name.lower())

    def __setitem__(self, name, value):
        super().__setitem__(name.lower(), value)

    def __contains__(self, name):
        return super().__contains__(name.lower())

    def get(self, name, default=None):
        return super().get(name.lower(), default)


class Request:
    """One call. What a handler does not ask for is not fetched from the host."""

    def __init__(self, body: bytes = b""):
        self.body = body

    @property
    def method(self) -> str:
        """`GET`, `POST`, and so on."""
        return _host.request.method()

    @property
    def path(self) -> str:
        """What follows the function's name: empty, or starting with a slash. Percent encoding is as it was."""
        return _host.request.path()

    @property
    def query_string(self) -> str:
        """The query without its question mark, empty when there is none."""
        return _host.request.query() or ""

    @property
    def query(self) -> dict[str, str]:
        """The last value of each name in the query, without percent encoding."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def headers(self) -> Headers:
        return Headers(_host.request.headers())

    @property
    def call_id(self) -> str:
        """As it stands in logs and in the header `Mote-Call-Id` of the reply."""
        return _host.request.id()

    def text(self) -> str:
        """The body as text; UnicodeDecodeError when it is none."""
        return self.body.decode()

    def json(self):
        """The body as JSON; ValueError when it is none."""
        return json.loads(self.body)

    def publish(self) -> None:
        """See `mote.publish`."""
        _host.response.publish()
