"""Which back end: by its name in the configuration, or the strongest one that holds here.

Nothing degrades silently: a back end that cannot be had, or lacks what is required, is an error
that says what to do.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from corral.errors import ConfigError, SandboxError
from corral.sandbox.backends.bubblewrap import BubblewrapBackend
from corral.sandbox.backends.gvisor import GVisorBackend
from corral.sandbox.backends.landlock import LandlockBackend
from corral.sandbox.backends.seatbelt import SeatbeltBackend
from corral.sandbox.backends.unconfined import UnconfinedBackend
from corral.sandbox.capabilities import REQUIRABLE, Health
from corral.sandbox.contract import LocalBackend

BACKENDS: Mapping[str, Callable[[], LocalBackend]] = {
    "gvisor": GVisorBackend,
    "bubblewrap": BubblewrapBackend,
    "landlock": LandlockBackend,
    "seatbelt": SeatbeltBackend,
    "none": UnconfinedBackend,
}
"""The back ends of this machine by the name that the setting ``sandbox`` has, strongest first."""

STRONGEST = "strongest"


def backends_here() -> tuple[str, ...]:
    """The names of those that isolate on this kind of system, strongest first."""
    return ("seatbelt",) if sys.platform == "darwin" else ("gvisor", "bubblewrap", "landlock")


def select_backend(name: str = "bubblewrap", require: Sequence[str] = ()) -> LocalBackend:
    """The back end of that name, or with ``strongest`` the first that holds here.

    ``require`` names properties (see ``Capabilities.names``) that a probe must find. Raises
    ``ConfigError`` for unknown names, and ``SandboxError`` for what cannot be had or is missing.
    """
    _check_names(name, require)
    if name == STRONGEST:
        return _strongest(require)
    backend = BACKENDS[name]()
    if require:
        check_requirements(probed(name), require)
    return backend


@cache
def probed(name: str) -> Health:
    """What the probe of a back end found, once in the life of this process."""
    return BACKENDS[name]().probe()


def _check_names(name: str, require: Iterable[str]) -> None:
    if name not in (*BACKENDS, STRONGEST):
        raise ConfigError(
            f"There is no sandbox {name!r}.",
            hint=f"Set sandbox to one of: {', '.join((*BACKENDS, STRONGEST))}.",
        )
    unknown = [one for one in require if one not in REQUIRABLE]
    if unknown:
        raise ConfigError(
            f"sandbox_require names {', '.join(unknown)}, which no sandbox has.",
            hint=f"It may name: {', '.join(sorted(REQUIRABLE))}.",
        )


def _strongest(require: Sequence[str]) -> LocalBackend:
    found = [probed(name) for name in backends_here()]
    for health in found:
        if health.ok and not _missing(health, require):
            return BACKENDS[health.backend]()
    if any(health.ok for health in found):
        holding = next(health for health in found if health.ok)
        check_requirements(holding, require)
    raise SandboxError(
        "No sandbox holds on this machine: "
        + " ".join(f"{health.backend}: {health.detail}" for health in found),
        hint=next((health.hint for health in found if health.backend == "bubblewrap"), ""),
    )


def _missing(health: Health, require: Iterable[str]) -> list[str]:
    names = health.capabilities.names if health.ok and health.capabilities else frozenset[str]()
    return [one for one in require if one not in names]


def check_requirements(health: Health, require: Sequence[str]) -> None:
    """Raise unless the back end has all of ``require``; the hint names one that does."""
    if not health.ok:
        raise SandboxError(
            f"The sandbox {health.backend} cannot be used: {health.detail}", hint=health.hint
        )
    missing = _missing(health, require)
    if not missing:
        return
    others = (name for name in backends_here() if name != health.backend)
    able = next((name for name in others if not _missing(probed(name), require)), None)
    raise SandboxError(
        f"The sandbox {health.backend} does not enforce {', '.join(missing)}, "
        "which sandbox_require asks for.",
        hint=f'Set sandbox = "{able}", which does.'
        if able
        else "No sandbox of this machine does: take it out of sandbox_require.",
    )
