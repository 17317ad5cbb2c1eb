"""What a call would change in a file: a unified diff of the file as it is when that is asked.

The arguments come from a model and the file may be an agent's work: a file is opened as one opens
something hostile, sizes are bounded, and comparing takes no longer than the square of a few lines.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from corral.jsontypes import JsonObject
from corral.policies.patterns.patches import patched_paths
from corral.runtime.views import Approval

MAX_FILE = 1024 * 1024
"""The largest file, in bytes, that is compared."""

MAX_DIFF = 4000
"""Lines of a diff that are kept; of more it says how many."""

_MAX_LINE = 2000
_COMPARED = 500  # lines that are compared one by one; more are shown as replaced
_CONTEXT = 2
_HUNK = re.compile(r"@@ -(\d+)((?:,\d+)?) \+(\d+)((?:,\d+)?) @@")

_PATHS = ("path", "file_path", "filepath", "filename", "file")
_CONTENTS = ("content", "contents", "file_text", "text")
_PATCHES = ("patch", "diff")
_MAX_PATCHED = 100  # files of a patch whose state is looked at
_WRITES = ("write", "create", "save")
_EDITS = (
    ("old", "new"),
    ("old_text", "new_text"),
    ("old_str", "new_str"),
    ("old_string", "new_string"),
    ("oldText", "newText"),
)


@dataclass(frozen=True)
class Seen:
    """A file as it is: its text, or ``None`` with the reason why there is none to compare."""

    text: str | None
    why: str = ""

    @property
    def digest(self) -> str:
        """What tells this state of the file from another one."""
        return sha256(f"{self.why}\0{self.text or ''}".encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True)
class _Change:
    """What the arguments say: the new ``content``, or texts to be replaced."""

    path: str
    content: str | None
    edits: tuple[tuple[str, str], ...] = ()
    everywhere: bool = False


def file_change(tool: str, args: JsonObject, workspace: str) -> JsonObject | None:
    """The change that a write, an edit or a patch would make; ``None`` for any other call.

    ``path`` is as the call has it (``paths`` are those of a patch), ``diff`` its lines (``cut``
    counts those left out), ``digest`` stands for the files' state and ``problem`` says why a file
    or an edit cannot be compared.
    """
    patch = _first(args, _PATCHES)
    if patch is not None and (paths := patched_paths(patch)):
        return _patched(patch, paths, workspace)
    change = _change(tool, args)
    if change is None:
        return None
    seen = look(Path(workspace), change.path)
    after, problem = _applied(change, seen)
    if after is None:
        old, new = ("\n".join(texts) for texts in zip(*change.edits, strict=True))
        lines = list(diff_lines(old, new, change.path))
    else:
        lines = list(diff_lines(seen.text, after, change.path))
    return {
        "path": change.path,
        "digest": seen.digest,
        "diff": [_short(line) for line in lines[:MAX_DIFF]],
        "cut": max(0, len(lines) - MAX_DIFF),
        "problem": problem,
    }


def _patched(patch: str, paths: tuple[str, ...], workspace: str) -> JsonObject:
    """A patch shows itself: its lines are what will change."""
    lines = _lines(patch)
    return {
        "path": ", ".join(paths),
        "paths": list(paths),
        "digest": _digest(workspace, paths),
        "diff": [_short(line) for line in lines[:MAX_DIFF]],
        "cut": max(0, len(lines) - MAX_DIFF),
        "problem": None,
    }


def _digest(workspace: str, paths: Sequence[str]) -> str:
    """What tells this state of all these files from another one."""
    states = [look(Path(workspace), path).digest for path in paths[:_MAX_PATCHED]]
    return states[0] if len(states) == 1 else sha256("".join(states).encode()).hexdigest()


def _change(tool: str, args: JsonObject) -> _Change | None:
    path = _first(args, _PATHS)
    if path is None:
        return None
    listed = args.get("edits")
    tables = [args, *(listed if isinstance(listed, list) else ())]
    edits = tuple(pair for table in tables for pair in _pairs(table))
    if edits:
        return _Change(path, None, edits, everywhere=args.get("all") is True)
    content = _first(args, _CONTENTS)
    name = tool.rpartition("__")[2].lower()
    if content is None or not any(word in name for word in _WRITES):
        return None
    return _Change(path, content)


def _first(args: JsonObject, names: tuple[str, ...]) -> str | None:
    return next((args[name] for name in names if isinstance(args.get(name), str)), None)


def _pairs(table: Any) -> Iterator[tuple[str, str]]:
    for old, new in _EDITS if isinstance(table, dict) else ():
        match table.get(old), table.get(new):
            case str(before), str(after):
                yield before, after


def _applied(change: _Change, seen: Seen) -> tuple[str | None, str | None]:
    """The file's text after the change, and what is in the way of knowing it."""
    problem = seen.why or None
    if change.content is not None:
        return change.content, None if problem == _ABSENT else problem
    text = seen.text
    if text is None:
        return None, problem
    for old, new in change.edits:
        count = text.count(old) if old else 0
        if count != 1 and not (count and change.everywhere):
            where = "is not in the file" if old not in text else "is in the file more than once"
            return None, f"the text to replace {where}, so the edit may fail"
        text = text.replace(old, new)
    return text, None


_ABSENT = "there is no such file yet"


def look(folder: Path, path: str) -> Seen:
    """A regular file inside ``folder``.

    Never follows a link out of the folder, never waits on a FIFO, never reads more than 1 MiB.
    """
    try:
        root = folder.resolve(strict=True)
        target = (root / path).resolve()
        if not target.is_relative_to(root):
            return Seen(None, "it is outside of the workspace")
        descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return Seen(None, _ABSENT)
    except (OSError, ValueError, RuntimeError):
        return Seen(None, "it cannot be read")
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return Seen(None, "it is no regular file")
        if status.st_size > MAX_FILE:
            return Seen(None, f"it is larger than {MAX_FILE:,} bytes")
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return Seen(file.read(MAX_FILE).decode("utf-8", "replace"))
    finally:
        os.close(descriptor)


def diff_lines(before: str | None, after: str, path: str) -> Iterator[str]:
    """A unified diff; ``before`` is ``None`` for a new file. Not cleaned."""
    a, b = (_lines(text) for text in (before, after))
    if before is not None and before == after:
        yield f"{path} stays as it is"
        return
    if a == b:
        yield f"only the ends of the lines of {path} change" if before else f"{path} is empty"
        return
    yield "--- new file" if before is None else f"--- {path} now"
    yield f"+++ {path} after"
    start = _same_start(a, b)
    end = _same_start(a[start:][::-1], b[start:][::-1])
    start, end = max(0, start - _CONTEXT), max(0, end - _CONTEXT)
    mine, its = a[start : len(a) - end], b[start : len(b) - end]
    if max(len(mine), len(its)) > _COMPARED:
        yield f"@@ -{start + 1},{len(mine)} +{start + 1},{len(its)} @@"
        yield from (f"-{line}" for line in mine)
        yield from (f"+{line}" for line in its)
        return
    for line in list(difflib.unified_diff(mine, its, lineterm="", n=_CONTEXT))[2:]:
        yield _moved(line, start)


def _lines(text: str | None) -> list[str]:
    if not text:
        return []
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n")


def _same_start(a: list[str], b: list[str]) -> int:
    limit = min(len(a), len(b))
    return next((i for i in range(limit) if a[i] != b[i]), limit)


def _moved(line: str, by: int) -> str:
    """A hunk's header with the lines before the part that was compared counted."""
    match = _HUNK.fullmatch(line)
    if match is None:
        return line
    return f"@@ -{int(match[1]) + by}{match[2]} +{int(match[3]) + by}{match[4]} @@"


def _short(line: str) -> str:
    more = len(line) - _MAX_LINE
    return line if more <= 0 else f"{line[:_MAX_LINE]}… {more:,} more characters"


def warnings_of(approval: Approval) -> tuple[str, ...]:
    """What is not any more as it was when an open question was asked."""
    change = approval.context.get("file")
    workspace = approval.context.get("facts", {}).get("workspace")
    if approval.status != "pending" or not change or not workspace:
        return ()
    if _digest(workspace, change.get("paths", [change["path"]])) == change["digest"]:
        return ()
    return (f"{change['path']} has changed since this was asked: the diff is of what it was.",)
