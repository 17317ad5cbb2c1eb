"""How a tool server of ours was started last, so that the next client does not wait for it to be
found out again: reading the settings takes longer than the server does. Standard library only.

It holds for the same options, environment and configuration files (``Place``), the same Corral, and
as long as every folder that the sandbox was granted, and every name in them that it protects, is
what it was: one that has become a link, or has come or gone, has it found out anew.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from corral.agents.hosting.place import Place, make_folder
from corral.errors import RunError
from corral.version import VERSION

_DAY = 86_400.0
_CORRAL = Path(__file__).resolve().parent.parent
_CODE = ("tools", "sandbox", "sandbox/backends", "sandbox/launcher", "mcp_servers")


class Start(NamedTuple):
    """A process: its command and its environment."""

    argv: list[str]
    env: dict[str, str]


def keep(
    place: Place, name: str, argv: Sequence[str], env: Mapping[str, str], granted: Iterable[Path]
) -> None:
    """Remember a start for a day. Where that cannot be done nothing is remembered."""
    states = {str(path): _state(path) for path in granted}
    kept = {"corral": _version(), "argv": list(argv), "env": dict(env), "states": states}
    file = _file(place, name)
    new = file.with_suffix(f".{os.getpid()}")
    with suppress(OSError, RunError):
        make_folder(file.parent)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with os.fdopen(os.open(new, flags, 0o600), "w", encoding="utf-8") as opened:
            json.dump(kept, opened)
        new.replace(file)


def kept(place: Place, name: str) -> Start | None:
    """The start that is remembered and still holds.

    None where the home is, or may be, in the workspace: what runs in there could have written it.
    """
    if place.workspace is None or place.home.resolve().is_relative_to(place.workspace.resolve()):
        return None
    try:
        found = _read(_file(place, name))
        states: dict[str, Any] = found["states"]
        holds = found["corral"] == _version() and all(
            _state(Path(path)) == state for path, state in states.items()
        )
        return Start(found["argv"], found["env"]) if holds else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _read(file: Path) -> Any:
    """What only this user can have written, and not long ago."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW), encoding="utf-8") as opened:
        found = os.fstat(opened.fileno())
        is_mine = found.st_uid == os.getuid() and not found.st_mode & 0o077
        if not is_mine or not 0 <= time.time() - found.st_mtime < _DAY:
            raise PermissionError(file)
        return json.load(opened)


def _file(place: Place, name: str) -> Path:
    return place.home / "starts" / f"{place.name}-{name}.json"


def _version() -> str:
    """This Corral, and when the code that makes a start was last replaced."""
    changed = max((_CORRAL / folder).stat().st_mtime_ns for folder in _CODE)
    return f"{VERSION} {_CORRAL} {changed}"


def _state(path: Path) -> list[Any] | None:
    """What is at a path, and where it leads; ``None``: nothing."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return [stat.S_IFMT(found.st_mode), found.st_dev, found.st_ino, os.path.realpath(path)]
