"""Small values that the functions of an app share and that outlive their calls.

The function's manifest must say `allow.keyvalue = true`. A key has 1 to 512 bytes, a value at most 64 KiB, and the
node limits what an app keeps in all. A write that returned is seen by every read that begins after it.

The functions of this module use the bucket `default`; `open` gives others.
"""

import json
from collections.abc import Callable, Iterator

from mote import _host

__all__ = [
    "Bucket",
    "KeyValueError",
    "delete",
    "get",
    "get_json",
    "get_text",
    "has",
    "increment",
    "keys",
    "open",
    "set",
    "set_json",
    "update",
]

_DENIED = "key-value data is not allowed; add `allow.keyvalue = true` to the function in mote.toml"
_NO_SUCH_STORE = "no such store: a bucket's name has 1 to 63 lower-case letters, digits and hyphens"


class KeyValueError(Exception):
    """Why something did not work: `kind` is `no-such-store`, `access-denied`, `changed` or `other`."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class Bucket:
    """A name space of the app. It is there as soon as it has a key."""

    def __init__(self, name: str):
        self.name = name
        # Opened when it is first used: before a call there is no host to ask.
        self._handle = None

    def _bucket(self):
        if self._handle is None:
            self._handle = _host.store.open(self.name)
        return self._handle

    def get(self, key: str) -> bytes | None:
        """The value of a key, None when there is none."""
        with _errors():
            return self._bucket().get(key)

    def get_text(self, key: str) -> str | None:
        value = self.get(key)
        return None if value is None else value.decode()

    def get_json(self, key: str):
        value = self.get(key)
        return None if value is None else json.loads(value)

    def set(self, key: str, value: bytes | str) -> None:
        """Sets a key. A value that is refused leaves the old one."""
        with _errors():
            self._bucket().set(key, _bytes(value))

    def set_json(self, key: str, value) -> None:
        self.set(key, json.dumps(value))

    def delete(self, key: str) -> None:
        """Removes a key, if it is there."""
        with _errors():
            self._bucket().delete(key)

    def has(self, key: str) -> bool:
        with _errors():
            return self._bucket().exists(key)

    def increment(self, key: str, by: int = 1) -> int:
        """Adds to a number, with nothing in between, and returns the sum.

        The value is decimal text; a key that is not there counts as 0.
        """
        with _errors():
            return _host.atomics.increment(self._bucket(), key, by)

    def keys(self) -> Iterator[str]:
        """All keys, in the order of their bytes."""
        cursor = None
        while True:
            with _errors():
                page = self._bucket().list_keys(cursor)
            yield from page.keys
            cursor = page.cursor
            if cursor is None:
                return

    def update(self, key: str, change: Callable[[bytes | None], bytes | str]) -> None:
        """Sets a key to what `change` makes of its value, with nothing in between.

        When the key was changed meanwhile, `change` is asked again, up to ten times.
        """
        for _ in range(10):
            with _errors():
                cas = _host.atomics.Cas.new(self._bucket(), key)
                old = cas.current()
            value = _bytes(change(old))
            try:
                with _errors():
                    _host.atomics.swap(cas, value)
                return
            except KeyValueError as error:
                if error.kind != "changed":
                    raise
        raise KeyValueError("changed", f"the key {key!r} was changed meanwhile, ten times")


def open(name: str) -> Bucket:  # noqa: A001, it is called `kv.open`
    """A bucket. Whether its name is valid shows when it is used."""
    return Bucket(name)


_default = Bucket("default")
get = _default.get
get_text = _default.get_text
get_json = _default.get_json
set = _default.set  # noqa: A001, it is called `kv.set`
set_json = _default.set_json
delete = _default.delete
has = _default.has
increment = _default.increment
keys = _default.keys
update = _default.update


def _bytes(value: bytes | str) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


class _errors:
    """What the host raises becomes what people catch."""

    def __enter__(self):
        return self

    def __exit__(self, _, error, __):
        if isinstance(error, _host.Err):
            raise _failure(error.value) from None


def _failure(value) -> KeyValueError:
    # Bindings name each case of a variant by its type.
    match type(value).__name__:
        case "Error_NoSuchStore":
            return KeyValueError("no-such-store", _NO_SUCH_STORE)
        case "Error_AccessDenied":
            return KeyValueError("access-denied", _DENIED)
        case "CasError_CasFailed":
            return KeyValueError("changed", "the key was changed meanwhile")
        case "CasError_StoreError":
            return _failure(value.value)
        case _:
            return KeyValueError("other", str(value.value))
