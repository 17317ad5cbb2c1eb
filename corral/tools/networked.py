"""Starting what may reach something: it needs a proxy first, and a command that knows of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from corral.errors import SandboxError
from corral.sandbox.contract import Launch, LocalBackend, Profile
from corral.sandbox.network.gateway import Reach
from corral.sandbox.network.streams import Handler
from corral.tools.addition import Basis

Argv = tuple[str, ...]


@dataclass(frozen=True)
class Networked:
    """A launch that is made once its proxy runs: ``launch`` is given the proxy's socket.

    The proxy is opened with ``open_proxy(reach)`` and outlives the process.
    """

    reach: Reach
    launch: Callable[[Path], Launch]


@dataclass(frozen=True)
class Sandboxed:
    """A command with its sandbox, and what its refusals name as the setting that allows more.

    ``handlers`` speak for the profile's forwarded ports, by their port inside. ``basis`` is what
    all this was made from.
    """

    argv: Argv
    profile: Profile
    setting: str = ""
    handlers: Mapping[int, Handler] = field(default_factory=dict)
    basis: Basis = field(default_factory=Basis)


def confined(backend: LocalBackend, what: Sandboxed) -> Launch | Networked:
    """How a command is started in a back end, with a network if its profile has one.

    Raises ``SandboxError``.
    """
    network = what.profile.network
    if not network:
        return backend.launch(what.argv, what.profile)
    if backend.name == "none":
        if network.forwards or any(rule.inject for rule in network.rules):
            raise SandboxError(
                f"What {what.setting} says needs a sandbox, and there is none.",
                hint='Take out sandbox = "none".',
            )
        return backend.launch(what.argv, what.profile)
    return Networked(
        Reach(network, what.setting, what.handlers),
        lambda socket: backend.launch(what.argv, replace(what.profile, proxy=socket)),
    )
