"""Which back end: by its name in the configuration, never by what happens to work."""

from __future__ import annotations

from corral.errors import ConfigError
from corral.sandbox.backends.bubblewrap import BubblewrapBackend
from corral.sandbox.backends.unconfined import UnconfinedBackend
from corral.sandbox.contract import LocalBackend

BACKENDS = ("bubblewrap", "none")
"""The names that the setting ``sandbox`` may have."""


def select_backend(name: str = "bubblewrap") -> LocalBackend:
    """The back end of that name; ``none`` isolates nothing. Raises ``ConfigError`` for others."""
    if name == "bubblewrap":
        return BubblewrapBackend()
    if name == "none":
        return UnconfinedBackend()
    raise ConfigError(
        f"There is no sandbox {name!r}.",
        hint=f"Set sandbox to one of: {', '.join(BACKENDS)}.",
    )
