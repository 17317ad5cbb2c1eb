"""Paths in the arguments of tool calls, compared as text: nothing is looked up on a disk.

Where a path leads by links is known to the caller (``ToolCall.links``). A path can be written in
many ways, so a pattern that loosens is matched strictly (only a plain path inside the workspace
fits) and one that tightens is matched loosely (see ``matches_loosely``).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from urllib.parse import unquote

from corral.policies.patterns.globs import match_segments
from corral.policies.patterns.names import last_word
from corral.policies.patterns.patches import is_patch_name, patched_paths

_FOLDERS = frozenset(
    {"dir", "dirs", "directory", "directories", "folder", "folders", "cwd", "root", "roots"}
    | {"workdir", "workspace"}
)
_FILES = frozenset(
    {"path", "paths", "file", "files", "filename", "filenames", "filepath", "filepaths"}
)
_WHOLE_NAMES = frozenset({"source", "src", "destination", "dest", "dst"})
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_LONGEST = 4096
_ENCODED = re.compile(r"%(?:2e|2f|5c|00|25)", re.IGNORECASE)
_FILE_URL = re.compile(r"file://[^/]*", re.IGNORECASE)


def is_folder_name(name: str) -> bool:
    """Whether an argument of this name holds a folder: ``dir``, ``cwd``, ``rootDir``."""
    return last_word(name) in _FOLDERS


def is_path_name(name: str) -> bool:
    """Whether an argument of this name holds a path: ``path``, ``output_file``, ``rootDir``."""
    last = last_word(name)
    return last in _FOLDERS or last in _FILES or name.lower() in _WHOLE_NAMES


def path_values(args: Mapping[str, Any]) -> list[str]:
    """All paths in a call's arguments, at any depth, and those of the files that a patch changes.

    A ``file://`` URL under any name is one.
    """
    found: list[str] = []
    todo: list[tuple[str, Any]] = list(args.items())
    while todo:
        name, value = todo.pop()
        if isinstance(value, str):
            if is_path_name(name) or _FILE_URL.match(value):
                found.append(value)
            elif is_patch_name(name):
                found.extend(patched_paths(value))
        elif isinstance(value, Mapping):
            todo.extend(value.items())
        elif isinstance(value, Sequence):
            todo.extend((name, item) for item in value)
    return found


@dataclass(frozen=True)
class Location:
    """Where a path leads, as text: its absolute segments, and those below the workspace.

    ``below`` is ``None`` outside the workspace. ``plain`` is false for a path that could be read
    as another one: by a NUL or an invisible character, a backslash, a dot or slash that is encoded
    or in another form, a home, variable or URL at its start, or a segment that begins with a space
    or ends in a dot.
    """

    absolute: tuple[str, ...]
    below: tuple[str, ...] | None
    plain: bool


def locate(path: str, workspace: str) -> Location:
    """Resolve ``path``, relative to ``workspace`` unless absolute. Both are brought to NFC."""
    if len(path) > _LONGEST:
        return _locate(path, workspace)  # too long to exist, and to be kept in memory
    return _located(path, workspace)


def _locate(path: str, workspace: str) -> Location:
    path = unicodedata.normalize("NFC", path)
    base = _resolve([], unicodedata.normalize("NFC", workspace).split("/"))
    if path.startswith(("~", "$")) or _SCHEME.match(path):
        return Location(tuple(_resolve([], path.split("/"))), None, plain=False)
    segments = _resolve([] if path.startswith("/") else base, path.split("/"))
    inside = segments[: len(base)] == base
    below = tuple(segments[len(base) :]) if inside else None
    return Location(tuple(segments), below, plain=not any(map(_is_odd, path.split("/"))))


_located = lru_cache(maxsize=1024)(_locate)


def is_inside(path: str, workspace: str) -> bool:
    """Whether a path stays in the workspace, however it is read."""
    as_written = locate(path, workspace)
    if not as_written.plain or as_written.below is None:
        return False
    return locate(_folded(path), _folded(workspace)).below is not None


def matches_strictly(pattern: str, path: str, workspace: str) -> bool:
    """Whether a path fits a pattern that loosens: it must be plain and inside the workspace."""
    return is_inside(path, workspace) and _fits(pattern, locate(path, workspace), workspace)


def matches_loosely(pattern: str, path: str, workspace: str) -> bool:
    """Whether a path fits a pattern that tightens, in any reading of it.

    Upper and lower case, compatible forms of characters, invisible characters, backslashes,
    ``%``-encoding, and dots and spaces at the end of a segment make no difference. ``/…`` and
    ``**/…`` patterns fit outside the workspace as well, ``../…`` patterns only there.
    """
    if _fits(pattern, locate(path, workspace), workspace):
        return True
    wanted, folded = _folded_pattern(pattern), _folded(workspace)
    readings = (path, unquote(path)) if "%" in path else (path,)
    return any(_fits(wanted, locate(_folded(one), folded), folded) for one in readings)


def _fits(pattern: str, location: Location, workspace: str) -> bool:
    parts = _parts(pattern)
    if pattern.startswith(("/", "~")):
        return match_segments(parts, location.absolute)
    if parts[:1] == ("..",):
        return location.below is None and _fits_above(parts, location.absolute, workspace)
    if location.below is not None:
        return match_segments(parts, location.below)
    return parts[:1] == ("**",) and match_segments(parts, location.absolute)


@lru_cache(maxsize=8192)
def _parts(pattern: str) -> tuple[str, ...]:
    """The segments of a pattern."""
    parts = _resolve([], unicodedata.normalize("NFC", pattern).split("/"), keep_parents=True)
    if pattern.endswith("/") and pattern.strip("/"):
        parts.append("**")
    return tuple(parts)


def _fits_above(parts: tuple[str, ...], absolute: tuple[str, ...], workspace: str) -> bool:
    ups = next((i for i, part in enumerate(parts) if part != ".."), len(parts))
    base = locate("/".join([".."] * ups), workspace).absolute
    return absolute[: len(base)] == base and match_segments(parts[ups:], absolute[len(base) :])


def _resolve(
    base: Sequence[str], segments: Sequence[str], *, keep_parents: bool = False
) -> list[str]:
    """Apply segments to a base; ``..`` goes up, at most to ``/``."""
    resolved = list(base)
    for segment in segments:
        if segment in ("", "."):
            continue
        if segment != "..":
            resolved.append(segment)
        elif keep_parents and (not resolved or resolved[-1] in ("..", "**")):
            resolved.append("..")
        elif resolved:
            resolved.pop()
    return resolved


def _is_odd(segment: str) -> bool:
    if segment in ("", ".", ".."):
        return False
    if segment != segment.strip() or segment.endswith(".") or _ENCODED.search(segment):
        return True
    usual = segment if segment.isascii() else unicodedata.normalize("NFKC", segment)
    if "/" in usual or not usual.strip(". "):
        return True
    return any(map(_is_hidden, segment))


def _is_hidden(character: str) -> bool:
    """A backslash, and control, format and unassigned characters: what a reader does not see."""
    return character == "\\" or unicodedata.category(character)[0] == "C"


def _folded(path: str) -> str:
    return _fold(path) if len(path) > _LONGEST else _kept_fold(path)


@lru_cache(maxsize=8192)
def _folded_pattern(pattern: str) -> str:
    return _fold(pattern, keep="\\")


def _fold(path: str, keep: str = "") -> str:
    """The text that all readings of a path have in common."""
    path = unicodedata.normalize("NFKC", path.split("\0", 1)[0]).casefold()
    if not keep:
        path = path.replace("\\", "/")
    seen = _FILE_URL.sub("", "".join(c for c in path if c in keep or not _is_hidden(c)), count=1)
    return "/".join(map(_fold_segment, unicodedata.normalize("NFKC", seen).split("/")))


_kept_fold = lru_cache(maxsize=1024)(_fold)


def _fold_segment(segment: str) -> str:
    segment = segment.strip()
    return segment if segment in (".", "..") else segment.rstrip(". ")
