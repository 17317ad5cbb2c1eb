"""How a tool server of ours was started last, so that the next client does not wait for it to be
found out again: reading the settings takes longer than the server does. Standard library only.

It holds for the same options, environment and configuration files (``Place``), the same Corral and
interpreter, and as long as all that it was made from is what it was. Of a name, such as that of a
folder that the sandbox was granted or of one in it that it protects, that is what is there and
where it leads: one that has become a link, or has come or gone, has it found out anew. Of what was
read it is the contents.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from corral.agents.hosting.place import Place, make_folder
from corral.errors import RunError
from corral.version import VERSION

_DAY = 86_400.0
_CORRAL = Path(__file__).resolve().parent.parent
_VARIABLES = ("HOME", "PATH", "XDG_CONFIG_HOME", "GIT_CONFIG_GLOBAL")
_CODE = (
    *("tools", "sandbox", "sandbox/backends", "sandbox/launcher", "sandbox/local"),
    *("mcp_servers", "cli/mcp", "runtime"),
)
"""The folders with what makes a start of the settings."""


PROXY: Final = Path("/corral-remembered-proxy/socket")
"""Stands for the socket of a proxy that there is not yet."""


class Start(NamedTuple):
    """A process: its command and its environment, and what a proxy beside it lets it reach."""

    argv: Sequence[str]
    env: Mapping[str, str]
    reach: Mapping[str, Any] | None = None

    def beside(self, proxy: Path) -> Start:
        """The same with the proxy that listens on this socket, in the place of ``PROXY``."""
        before, after = (json.dumps(str(socket.parent))[1:-1] for socket in (PROXY, proxy))
        env = {name: value.replace(before, after) for name, value in self.env.items()}
        return self._replace(env=env)


def keep(
    place: Place,
    name: str,
    start: Start,
    names: Iterable[Path],
    contents: Iterable[Path] = (),
) -> None:
    """Remember a start for a day. Where that cannot be done nothing is remembered.

    ``names`` and ``contents`` are what it was made from.
    """
    file = _file(place, name)
    new = file.with_suffix(f".{os.getpid()}")
    with suppress(OSError, RunError):
        make_folder(file.parent)  # before the rest: it may be in one of the names
        _remove_old(file.parent)
        kept = {
            "corral": _version(),
            "start": start,
            "states": {str(path): _state(path) for path in names},
            "contents": {str(path): _contents(path) for path in contents},
        }
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
        holds = (
            found["corral"] == _version()
            and all(_state(Path(path)) == state for path, state in found["states"].items())
            and all(_contents(Path(path)) == state for path, state in found["contents"].items())
        )
        return Start(*found["start"]) if holds else None
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
    """One for each interpreter and user, and for each way to where their programs are."""
    told = [sys.executable, *(os.environ.get(variable, "") for variable in _VARIABLES)]
    digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]
    return place.home / "starts" / f"{place.name}-{digest}-{name}.json"


def _remove_old(folder: Path) -> None:
    """Remove what nobody believes any more."""
    for file in folder.iterdir():
        if time.time() - file.lstat().st_mtime > _DAY:
            file.unlink(missing_ok=True)


def _version() -> str:
    """This Corral, with the code that makes a start as it is now."""
    code = hashlib.sha256()
    for folder in _CODE:
        for file in sorted(os.scandir(_CORRAL / folder), key=lambda file: file.name):
            if file.name.endswith(".py"):
                found = file.stat()
                code.update(f"{file.path} {found.st_mtime_ns} {found.st_size}\n".encode())
    return f"{VERSION} {code.hexdigest()}"


def _state(path: Path) -> list[Any] | None:
    """What is at a path, and where it leads; ``None``: nothing."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return [stat.S_IFMT(found.st_mode), found.st_dev, found.st_ino, os.path.realpath(path)]


def _contents(path: Path) -> list[int] | None:
    """What stands in a file, or which names in a folder, as its times tell; ``None``: nothing."""
    try:
        found = path.stat()
    except OSError:
        return None
    return [found.st_ino, found.st_mtime_ns, found.st_size]
