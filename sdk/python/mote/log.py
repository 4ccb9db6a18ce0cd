"""Lines for the function's log. `print` and the module `logging` write there, too: `print` with the level info."""

import logging

from mote import _host

TRACE = 5
"""A level of `logging` below DEBUG."""

_LEVELS = ((logging.ERROR, "ERROR"), (logging.WARNING, "WARN"), (logging.INFO, "INFO"), (logging.DEBUG, "DEBUG"))


def trace(message: object) -> None:
    _write("TRACE", message)


def debug(message: object) -> None:
    _write("DEBUG", message)


def info(message: object) -> None:
    _write("INFO", message)


def warn(message: object) -> None:
    _write("WARN", message)


def error(message: object) -> None:
    _write("ERROR", message)


def _write(level: str, message: object) -> None:
    # Half of a surrogate pair would be no text for the host.
    text = str(message).encode("utf-8", "replace").decode()
    _host.log.log(_host.log.Level[level], text)


class Handler(logging.Handler):
    """What `logging` writes to."""

    def emit(self, record: logging.LogRecord) -> None:
        name = next((name for least, name in _LEVELS if record.levelno >= least), "TRACE")
        _write(name, self.format(record))


logging.basicConfig(handlers=[Handler()], level=logging.INFO, format="%(message)s")
