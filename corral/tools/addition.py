"""What one of our servers needs beyond the workspace: settings, folders, a network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from site import getsitepackages, getusersitepackages

from corral.jsontypes import JsonObject
from corral.sandbox.contract import Grant
from corral.sandbox.network.rules import Network
from corral.sandbox.network.streams import Handler


@dataclass(frozen=True)
class Basis:
    """What a start was made from, besides the settings: once it changes, another one is right.

    Of ``names`` it matters what is there, if anything, and where it leads; of ``contents``, files
    and folders, what stands in them.
    """

    names: tuple[Path, ...] = ()
    contents: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Addition:
    """What is added to a server's command (``--config``, never a secret) and to its sandbox.

    ``setting`` is what refusals name as the place to allow more. ``handlers`` speak for the
    network's forwarded ports, by their port inside. ``alone``: the workspace is not granted, and
    the server works with nothing but ``grants``. ``basis`` is what all this was made from, besides
    the grants.
    """

    config: JsonObject = field(default_factory=dict)
    grants: tuple[Grant, ...] = ()
    network: Network = field(default_factory=Network)
    setting: str = ""
    handlers: Mapping[int, Handler] = field(default_factory=dict)
    alone: bool = False
    basis: Basis = Basis()


def package_folders(*libraries: str) -> tuple[Path, ...]:
    """The folders in which libraries are installed; those that are not there are left out."""
    found = (find_spec(name) for name in libraries)
    origins = (spec.origin for spec in found if spec is not None and spec.origin)
    return tuple(dict.fromkeys(Path(origin).parent.parent for origin in origins))


def library_folders() -> tuple[Path, ...]:
    """The folders in which libraries come and go."""
    return tuple(map(Path, (*getsitepackages(), getusersitepackages())))
