"""Where a component begins: `mote build` puts the name of the function's module into `mote_module`."""

import importlib

from mote_module import NAME

from mote._serve import handler_of, serve
from mote._warm import warm

_handler = handler_of(importlib.import_module(NAME))
warm()


class WitWorld:
    """The world's exports."""

    def handle(self, body: bytes) -> bytes:
        return serve(_handler, body)
