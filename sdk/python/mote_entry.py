"""Where a component begins: `mote build` puts the name of the function's module into `mote_module`."""

import importlib

from mote_module import NAME

from mote._serve import handler_of, serve

_handler = handler_of(importlib.import_module(NAME))


class WitWorld:
    """The world's exports."""

    def handle(self, body: bytes) -> bytes:
        return serve(_handler, body)
