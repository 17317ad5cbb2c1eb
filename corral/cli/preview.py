"""What a tool call would do, in a form that a person can judge: arguments and diffs.

Everything here comes from a model and from files that an agent may have written, so all of it
is cleaned, and files are opened as one opens something hostile.
"""

from __future__ import annotations

import difflib
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from corral.cli.output import clean

if TYPE_CHECKING:
    from corral.jsontypes import Json, JsonObject

MAX_LINES = 60
"""Lines of one value or diff that are shown at first; the rest is counted."""

_MAX_FILE = 1024 * 1024


def argument_lines(args: JsonObject) -> Iterator[str]:
    """The arguments, one ``name: value`` each; values of several lines are indented below."""
    for name, value in args.items():
        shown = _shown(value)
        lines = shown.split("\n")
        if len(lines) == 1:
            yield f"{clean(name)}: {lines[0]}"
            continue
        yield f"{clean(name)}:"
        yield from (f"  {line}" for line in lines)


def _shown(value: Json) -> str:
    if isinstance(value, str):
        return clean(value)
    return clean(json.dumps(value, indent=2, ensure_ascii=False))


def shorten(lines: list[str], limit: int | None) -> list[str]:
    """At most ``limit`` lines: the first and the last, with a count of what is left out."""
    if limit is None or len(lines) <= limit:
        return lines
    head = limit * 2 // 3
    tail = limit - head
    return [*lines[:head], f"… {len(lines) - limit} more lines …", *lines[-tail:]]


def change_lines(tool: str, args: JsonObject, workspace: Path | None) -> list[str] | None:
    """The change that a write or an edit of ours would make, as a unified diff.

    ``None`` for any other tool, and for arguments of another shape.
    """
    path = args.get("path")
    if not isinstance(path, str):
        return None
    match tool, args:
        case "files__edit_file", {"old": str(old), "new": str(new)}:
            return _diff(old, new, path)
        case "files__write_file", {"content": str(content)}:
            before = read_beneath(workspace, path) if workspace else None
            return _diff(before or "", content, path, created=before is None)
    return None


def _diff(before: str, after: str, path: str, *, created: bool = False) -> list[str]:
    diff = difflib.unified_diff(
        clean(before).splitlines(),
        clean(after).splitlines(),
        "new file" if created else f"{clean(path)} now",
        f"{clean(path)} after",
        lineterm="",
        n=2,
    )
    return list(diff) or [f"{clean(path)} stays as it is"]


def read_beneath(folder: Path, path: str) -> str | None:
    """The text of a regular file inside ``folder``, or ``None`` when there is no such thing.

    Never follows a link out of the folder, never waits on a FIFO, never reads more than 1 MiB.
    """
    try:
        root = folder.resolve(strict=True)
        target = (root / path).resolve(strict=True)
        if not target.is_relative_to(root):
            return None
        descriptor = os.open(target, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except (OSError, ValueError):
        return None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_FILE:
            return None
        return os.read(descriptor, _MAX_FILE).decode("utf-8", "replace")
    finally:
        os.close(descriptor)


def call_text(name: str, args: JsonObject, width: int = 100) -> str:
    """A call on one line: ``files__read_file(path="a.txt")``, cut to about ``width``."""
    shown = ", ".join(
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in args.items()
    )
    inside = clean(shown.replace("\n", " "))
    if len(inside) > width:
        inside = inside[: width - 1] + "…"
    return f"{clean(name)}({inside})"


def duration(milliseconds: float | None) -> str:
    """A duration for people: ``0.3 s``, ``2 min 5 s``, empty when not known."""
    if milliseconds is None:
        return ""
    if milliseconds < 1000:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 60_000:
        return f"{milliseconds / 1000:.1f} s"
    minutes, seconds = divmod(round(milliseconds / 1000), 60)
    return f"{minutes} min {seconds} s"
