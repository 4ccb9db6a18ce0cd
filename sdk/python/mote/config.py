"""What a function is told about the place it runs in: the `env` of its manifest, and the secrets that the manifest
asks for by `allow.secrets = ["NAME"]`. Where both have a key, the secret wins.

`os.environ` is that of the build, not of the call.
"""

from mote import _host


def get(name: str, default: str | None = None) -> str | None:
    """The value of a key; `default` when there is none, and for a secret that was not granted."""
    value = _host.config.get(name)
    return default if value is None else value


def all() -> dict[str, str]:  # noqa: A001, it is called `config.all`
    """Every key with its value."""
    return dict(_host.config.get_all())
