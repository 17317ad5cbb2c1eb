"""Packages that code may import: read-only folders that were made outside of the sandbox.

Each folder (a layer) holds what was resolved together for one set of requests, and says in
``layer.json`` what was asked for and what is in it. They are made by ``corral.tools.packages``.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

from corral.mcp_servers.tool import ToolFault

_SEPARATORS = re.compile(r"[-_.]+")
_MISSING = re.compile(
    r"^ModuleNotFoundError: No module named '(\w+)(?:\.[.\w]*)?'\s*\Z", re.MULTILINE
)
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Layer(NamedTuple):
    """One folder of packages: what was asked for, and the versions of all that is in it."""

    folder: str
    requested: frozenset[str]
    installed: dict[str, str]


class PackageLayers:
    """The layers below ``home``, and the one in use. ``allowed`` is only told to the model."""

    def __init__(self, home: str, folder: str, allowed: list[str]) -> None:
        self._home = home
        self._allowed = allowed
        self.folder = folder

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> PackageLayers:
        """What ``--config`` says; without it there are no packages."""
        allowed = [str(name) for name in config.get("allowed", ())]
        return cls(str(config.get("packages_home", "")), str(config.get("packages", "")), allowed)

    def add(self, requests: list[str]) -> dict[str, str]:
        """Take up the smallest layer that has these and what was in use; its packages."""
        wanted = {_key(text) for text in requests} | self._in_use()
        fitting = [layer for layer in self._layers() if wanted <= layer.requested]
        if not fitting:
            raise ToolFault(self._refusal(requests))
        layer = min(fitting, key=lambda one: (len(one.requested), one.folder))
        self.folder = layer.folder
        names = {_name(text) for text in requests}
        return {name: version for name, version in layer.installed.items() if name in names}

    def advice(self, error: str) -> str:
        """What to do about a traceback that ends with a missing module; empty for others."""
        missing = _MISSING.search(error)
        if missing is None or _name(missing[1]) not in map(_name, self._allowed):
            return ""
        return f"{missing[1]} is not installed; install_packages can make it importable."

    def _in_use(self) -> set[str]:
        return {key for one in self._layers() if one.folder == self.folder for key in one.requested}

    def _layers(self) -> list[Layer]:
        if not self._home:
            return []
        found = (_read(path) for path in sorted(Path(self._home).glob("[!.]*/layer.json")))
        return [layer for layer in found if layer is not None]

    def _refusal(self, requests: list[str]) -> str:
        names = ", ".join(requests)
        if not self._allowed:
            return f"Nothing was installed: no packages are allowed here, so not {names}."
        allowed = {_name(text) for text in self._allowed}
        others = ", ".join(text for text in requests if _name(text) not in allowed)
        if others:
            return (
                f"Nothing was installed: {others} is not allowed. Allowed are "
                f"{', '.join(self._allowed)}; only the user can name others, in allowed_packages "
                "of [python]."
            )
        return (
            f"Nothing was installed: {names} is allowed, but not there yet. The user installs it "
            f"with `corral packages install {' '.join(requests)}`, and then this call works."
        )


def _read(path: Path) -> Layer | None:
    try:
        data = json.loads(path.read_bytes())
        if (
            data["python"]
            != f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}"
        ):
            return None
        requested = frozenset(_key(text) for text in data["requested"])
        return Layer(str(path.parent), requested, dict(data["installed"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _key(request: str) -> str:
    """A request in the one form in which requests are compared: ``name`` or ``name==1.2``."""
    compact = "".join(request.split())
    return _name(compact) + compact[len(_raw_name(compact)) :]


def _name(request: str) -> str:
    return _SEPARATORS.sub("-", _raw_name(request)).lower()


def _raw_name(request: str) -> str:
    found = _NAME.match(request)
    return found.group() if found else ""
