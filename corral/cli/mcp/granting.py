"""What the command of a server names and its sandbox would not show it: a script, a folder.

Nothing is granted by this. A person is asked, or is told the option that grants it.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from corral.cli.context import current

if TYPE_CHECKING:
    from corral.cli.mcp.entry import Where
    from corral.jsontypes import JsonObject

_MARKS = ("package.json", "pyproject.toml", ".git")
"""What lies at the top of a package."""

_CODE = frozenset(
    (".js", ".mjs", ".cjs", ".ts", ".mts", ".py", ".rb", ".php", ".pl", ".lua", ".sh")
)
_SHARED = tuple(map(Path, ("/", "/tmp", "/var/tmp", "/home", "/Users", "/root")))  # noqa: S108  # nothing is put there
_SYSTEM = tuple(
    map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/boot", "/dev", "/proc", "/sys"))
)


@dataclass(frozen=True)
class Needed:
    """A file or folder that a command names, and what of it a server must probably read.

    ``whole`` is the package of a script: it loads the files beside it.
    """

    named: Path
    whole: Path

    def is_covered(self, entry: JsonObject) -> bool:
        """Whether the entry grants what is named."""
        return _is_within(self.named, _granted(entry))

    def is_granted(self, entry: JsonObject) -> bool:
        """Whether the entry grants all that is probably needed."""
        return _is_within(self.whole, _granted(entry))

    @property
    def is_outside(self) -> bool:
        """Whether a project's own file may not grant it."""
        return current().config is None and not self.whole.is_relative_to(_workspace())


def placed(entry: JsonObject) -> JsonObject:
    """The entry with the files that its command names as whole paths.

    A server starts in the workspace only if it may read all of it; from anywhere else a relative
    path leads nowhere.
    """
    if not _args(entry) or _is_within(_workspace(), _granted(entry)):
        return entry
    return {**entry, "args": [_whole(word) for word in _args(entry)]}


def needed(entry: JsonObject) -> list[Needed]:
    """What the arguments name that is there, and that no sandbox shows by itself."""
    if "command" not in entry or entry.get("sandbox", True) is False:
        return []
    named = (path for word in _args(entry) if (path := _path(_split(word)[1])) is not None)
    found = {one.whole: one for path in named if (one := _needed(path)) is not None}
    return [one for whole, one in found.items() if found.keys().isdisjoint(whole.parents)]


def with_grant(entry: JsonObject, one: Needed) -> JsonObject:
    """The entry, with what is needed granted for reading."""
    return {**entry, "grants": [*entry.get("grants", ()), str(one.whole)]}


def options(missing: list[Needed], scope: Where) -> str:
    """The options of ``corral mcp add`` that grant what is missing."""
    words = [word for one in missing for word in ("--grant", str(one.whole))]
    if scope == "user" or any(one.is_outside for one in missing):
        words += ["--scope", "user"]
    return shlex.join(words)


def _args(entry: JsonObject) -> list[str]:
    return [str(word) for word in entry.get("args", ())]


def _split(word: str) -> tuple[str, str]:
    """An option with its value in one word, as both; before any other word stands nothing."""
    option, equals, value = word.partition("=")
    return (option + equals, value) if equals and option.startswith("-") else ("", word)


def _path(word: str) -> Path | None:
    """The file or folder that a word of a command names; a mere name could mean anything."""
    looks_like_one = "/" in word or word in (".", "..") or Path(word).suffix in _CODE
    path = Path(os.path.normpath(_workspace() / word))
    try:
        return path if looks_like_one and "\0" not in word and path.exists() else None
    except OSError:
        return None


def _whole(word: str) -> str:
    """A word with the path in it as the sandbox will have it: from the root, through no link."""
    option, value = _split(word)
    path = _path(value)
    if path is None:
        return word
    return f"{option}{_real(path) if path.is_file() else path}"


def _needed(path: Path) -> Needed | None:
    """Nothing for what belongs to the system, or holds more than one program's files."""
    real = _real(path)
    if _is_within(real, _SYSTEM) or _is_shared(real):
        return None
    if path.is_dir():
        return Needed(path, path)
    return Needed(real, _package(real) if real.suffix in _CODE else real)


def _package(script: Path) -> Path:
    """The nearest folder above a script that is a package's, else its own, else the file alone."""
    above = [folder for folder in script.parents if not _is_shared(folder)]
    marked = (one for one in above if any((one / mark).exists() for mark in _MARKS))
    own = script if _is_shared(script.parent) else script.parent
    return next(marked, own)


def _is_shared(folder: Path) -> bool:
    """Whether a folder holds what has nothing to do with one program, such as a home folder."""
    home = _real(Path.home())
    is_hidden = folder.parent == home and folder.name.startswith(".")
    return folder in _SHARED or folder == home or folder in home.parents or is_hidden


def _granted(entry: JsonObject) -> list[Path]:
    given = (*entry.get("grants", ()), *entry.get("writable", ()))
    return [_real(_workspace() / Path(one).expanduser()) for one in given]


def _is_within(path: Path, folders: list[Path] | tuple[Path, ...]) -> bool:
    return any(_real(path).is_relative_to(folder) for folder in folders)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _workspace() -> Path:
    return _real(current().workspace or Path.cwd())
