"""The host: the bindings that a component has, or what stands in for them without one."""

try:
    from componentize_py_types import Err
    from wit_world.imports import atomics, call, log, request, response
    from wit_world.imports import wasi_config_store as config
    from wit_world.imports import wasi_keyvalue_store as store
except ImportError:
    from mote._local import Err, atomics, call, config, log, request, response, store

__all__ = ["Err", "atomics", "call", "config", "log", "request", "response", "store"]
