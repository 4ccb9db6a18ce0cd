"""What stands in for the host where there is none: values in memory, the log on standard error.

`request` is what tests set, `siblings` whom they may call: `siblings["resize"] = handle`.
"""

import enum
import os
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace


class Err(Exception):
    """The host's error."""

    def __init__(self, value):
        super().__init__(value)
        self.value = value


# Named as the bindings name them.
Error_NoSuchStore = type("Error_NoSuchStore", (), {})
Error_AccessDenied = type("Error_AccessDenied", (), {})
CasError_CasFailed = type("CasError_CasFailed", (), {})


@dataclass
class Error_Other:  # noqa: N801
    value: str


class request:  # noqa: N801, a module in a component
    asked = SimpleNamespace(method="GET", path="", query=None, headers=[], id="local")

    @classmethod
    def method(cls):
        return cls.asked.method

    @classmethod
    def path(cls):
        return cls.asked.path

    @classmethod
    def query(cls):
        return cls.asked.query

    @classmethod
    def headers(cls):
        return cls.asked.headers

    @classmethod
    def id(cls):
        return cls.asked.id


class response:  # noqa: N801
    status = 200
    headers: list = []
    published = False

    @classmethod
    def clear(cls):
        cls.status, cls.headers, cls.published = 200, [], False

    @classmethod
    def set_status(cls, status):
        cls.status = status

    @classmethod
    def set_header(cls, name, value):
        cls.headers.append((name, value))

    @classmethod
    def publish(cls):
        cls.published = True


class log:  # noqa: N801
    Level = enum.Enum("Level", ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"])

    @staticmethod
    def log(level, message):
        print(level.name.lower(), message, file=sys.stderr)


class config:  # noqa: N801
    @staticmethod
    def get(name):
        return os.environ.get(name)

    @staticmethod
    def get_all():
        return list(os.environ.items())


class store:  # noqa: N801
    buckets: dict[str, dict[str, bytes]] = {}

    @classmethod
    def open(cls, name):
        if not 0 < len(name) < 64 or set(name) - set("abcdefghijklmnopqrstuvwxyz0123456789-"):
            raise Err(Error_NoSuchStore())
        return _Bucket(cls.buckets.setdefault(name, {}))


class _Bucket:
    PAGE = 1000

    def __init__(self, values):
        self.values = values

    def get(self, key):
        return self.values.get(key)

    def set(self, key, value):
        if not 0 < len(key.encode()) <= 512:
            raise Err(Error_Other(f"key of {len(key.encode())} bytes: 1 to 512 are allowed"))
        if len(value) > 65536:
            raise Err(Error_Other(f"value of {len(value)} bytes for key `{key}`: the limit is 65536 bytes"))
        self.values[key] = value

    def delete(self, key):
        self.values.pop(key, None)

    def exists(self, key):
        return key in self.values

    def list_keys(self, cursor):
        keys = sorted(key for key in self.values if cursor is None or key > cursor)
        more = len(keys) > self.PAGE
        return SimpleNamespace(keys=keys[: self.PAGE], cursor=keys[self.PAGE - 1] if more else None)


class _Cas:
    def __init__(self, bucket, key):
        self.bucket, self.key, self.seen = bucket, key, bucket.get(key)

    @classmethod
    def new(cls, bucket, key):
        return cls(bucket, key)

    def current(self):
        return self.seen


class atomics:  # noqa: N801
    Cas = _Cas

    @staticmethod
    def increment(bucket, key, by):
        try:
            total = int(bucket.get(key) or b"0") + by
        except ValueError:
            raise Err(Error_Other(f"the value of key `{key}` is not a number")) from None
        bucket.set(key, str(total).encode())
        return total

    @staticmethod
    def swap(cas, value):
        if cas.bucket.get(cas.key) != cas.seen:
            raise Err(CasError_CasFailed())
        cas.bucket.set(cas.key, value)


siblings: dict = {}


class call:  # noqa: N801
    ErrorKind = enum.Enum("ErrorKind", ["BAD_REQUEST", "NOT_FOUND", "FUNCTION_FAILED"])

    @dataclass
    class Request:
        function: str
        method: str
        target: str
        headers: list
        body: bytes

    @dataclass
    class Reply:
        status: int
        headers: list = field(default_factory=list)
        body: bytes = b""

    @classmethod
    def invoke(cls, asked):
        from mote._serve import serve

        handler = siblings.get(asked.function)
        if handler is None:
            message = f"no function `{asked.function}`"
            raise Err(SimpleNamespace(kind=cls.ErrorKind.NOT_FOUND, message=message))
        path, _, query = asked.target.partition("?")
        before = request.asked, (response.status, response.headers, response.published)
        request.asked = SimpleNamespace(
            method=asked.method, path=path, query=query or None, headers=asked.headers, id="local"
        )
        response.clear()
        try:
            body = serve(handler, asked.body)
            return cls.Reply(response.status, response.headers, body)
        except Err as error:
            return cls.Reply(500, [], error.value.encode())
        finally:
            request.asked, (response.status, response.headers, response.published) = before

    @classmethod
    def start(cls, asked):
        reply = cls.invoke(asked)
        return SimpleNamespace(wait=lambda: reply)

    @classmethod
    def spawn(cls, asked):
        cls.invoke(asked)
        return "local"
