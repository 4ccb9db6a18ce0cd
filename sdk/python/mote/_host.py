"""The host: the bindings that a component has, or what stands in for them without one."""

import importlib

__all__ = ["Err", "atomics", "call", "config", "log", "request", "response", "store"]


class _Missing:
    """Bindings that the build left out."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, _):
        raise RuntimeError(
            f"this component was built without `{self._name}`, because no source of the function names it; "
            f"write `from mote import {self._name}` where it is used"
        )


def _bindings(module, name):
    try:
        return importlib.import_module(f"wit_world.imports.{module}")
    except ModuleNotFoundError:
        return _Missing(name)


try:
    from componentize_py_types import Err
except ModuleNotFoundError:
    from mote._local import Err, atomics, call, config, log, request, response, store
else:
    request = _bindings("request", "request")
    response = _bindings("response", "response")
    log = _bindings("log", "log")
    call = _bindings("call", "call")
    # Named by the build, for both are called `store`.
    config = _bindings("config_store", "config")
    store = _bindings("keyvalue_store", "kv")
    atomics = _bindings("atomics", "kv")
