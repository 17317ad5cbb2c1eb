"""Unified diffs, read and applied to texts: pure, strict about content, lenient about places.

Source: POSIX.1-2017, diff, "Diff Unified Output Format"; git-diff(1), "Generating patch text".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

MAX_PATCH = 4 * 1024 * 1024
"""The longest patch, in characters."""

NOTHING = "/dev/null"

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@")
_UNKNOWN = {
    "rename from ": "it renames a file: use move first, and give the patch without that",
    "copy from ": "it copies a file: write it",
    "old mode ": "it changes permissions",
    "GIT binary patch": "it changes a binary file",
    "Binary files ": "it changes a binary file",
}
_QUOTED = 200
_NEAR = 500  # lines around a hunk's place that are looked at for what it may have meant


class BadPatch(Exception):
    """A patch that cannot be read or applied; the text says where and why."""


class Hunk(NamedTuple):
    """One change: the line at which the old text starts (from 1), the old and the new lines."""

    line: int
    old: tuple[str, ...]
    new: tuple[str, ...]


class FilePatch(NamedTuple):
    """What changes in one file; ``None`` for a file that is not there before, or after."""

    old: str | None
    new: str | None
    hunks: tuple[Hunk, ...]

    @property
    def paths(self) -> tuple[str, ...]:
        """The file's names."""
        return tuple(dict.fromkeys(name for name in (self.old, self.new) if name is not None))


def parse(text: str) -> list[FilePatch]:
    """The files of a patch, in order. Raises ``BadPatch``.

    A file starts with a line ``--- `` that a line ``+++ `` follows, as policy reads it too.
    """
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n")
    found: list[FilePatch] = []
    at = 0
    while at < len(lines):
        if is_header(lines, at):
            patch, at = _file(lines, at)
            found.append(patch)
            continue
        if lines[at].startswith("diff --git "):
            _check_head(lines, at)
        if lines[at].startswith("@@ "):
            raise BadPatch(f"Line {at + 1} of the patch: a hunk without --- and +++ lines above.")
        at += 1
    if not found:
        raise BadPatch("The patch names no file: it needs --- and +++ lines and hunks below them.")
    return found


def is_header(lines: list[str], at: int) -> bool:
    """Whether a file starts at this line."""
    follows = at + 1 < len(lines) and lines[at + 1].startswith("+++ ")
    return lines[at].startswith("--- ") and follows


def _check_head(lines: list[str], start: int) -> None:
    """Refuse what git says of a file besides its text, as nobody would carry it out."""
    why = "it changes no text: use write_file, delete or move"
    for at in range(start + 1, len(lines)):
        reasons = (reason for word, reason in _UNKNOWN.items() if lines[at].startswith(word))
        reason = next(reasons, None)
        if reason is not None:
            why = reason
            break
        if is_header(lines, at):
            return
        if lines[at].startswith("diff --git "):
            break
    raise BadPatch(f"Line {start + 1} of the patch: {why}.")


def _file(lines: list[str], at: int) -> tuple[FilePatch, int]:
    old, new = names_of(lines[at], lines[at + 1])
    if old is None and new is None:
        raise BadPatch(f"Line {at + 1} of the patch: both sides are {NOTHING}.")
    hunks: list[Hunk] = []
    at += 2
    while at < len(lines) and lines[at].startswith("@@"):
        hunk, at = _hunk(lines, at)
        hunks.append(hunk)
    if not hunks:
        raise BadPatch(
            f"The patch has no hunk for {new or old}: a line @@ -1,2 +1,2 @@ starts one."
        )
    return FilePatch(old, new, tuple(hunks)), at


def names_of(old_line: str, new_line: str) -> tuple[str | None, str | None]:
    """The file's names before and after, ``a/`` and ``b/`` taken off if both have them."""
    old, new = (line[4:].split("\t")[0].rstrip() for line in (old_line, new_line))
    for name in (old, new):
        if name.startswith('"') or not name:
            raise BadPatch(f"The patch names a file as {name[:_QUOTED]!r}: write the plain name.")
    if _starts(old, "a/") and _starts(new, "b/"):
        old, new = (name if name == NOTHING else name[2:] for name in (old, new))
    return (None if old == NOTHING else old), (None if new == NOTHING else new)


def _starts(name: str, prefix: str) -> bool:
    return name == NOTHING or name.startswith(prefix)


def _hunk(lines: list[str], at: int) -> tuple[Hunk, int]:
    head = _HUNK.match(lines[at])
    if head is None:
        raise BadPatch(f"Line {at + 1} of the patch is no hunk's head: {lines[at][:_QUOTED]!r}.")
    start = at
    left, right = (int(count) if count is not None else 1 for count in (head[2], head[4]))
    old: list[str] = []
    new: list[str] = []
    at += 1
    while (len(old) < left or len(new) < right) and at < len(lines):
        mark, line = lines[at][:1], lines[at][1:]
        if mark not in ("", " ", "-", "+", "\\"):
            break
        old += [line + "\n"] if mark in ("", " ", "-") else []
        new += [line + "\n"] if mark in ("", " ", "+") else []
        _cut_newline(lines, at, old, new)
        at += 1
    if (len(old), len(new)) != (left, right):
        raise BadPatch(
            f"The hunk at line {start + 1} of the patch says -{left} +{right} lines, and has "
            f"-{len(old)} +{len(new)}."
        )
    if at < len(lines) and lines[at].startswith("\\"):
        _cut_newline([lines[at - 1], lines[at]], 1, old, new)
        at += 1
    return Hunk(int(head[1]), tuple(old), tuple(new)), at


def _cut_newline(lines: list[str], at: int, old: list[str], new: list[str]) -> None:
    """The line before a remark that starts with a backslash has no end."""
    if not lines[at].startswith("\\") or at == 0:
        return
    mark = lines[at - 1][:1]
    for side, marks in ((old, " -"), (new, " +")):
        if side and mark in marks:
            side[-1] = side[-1].removesuffix("\n")


def apply(patch: FilePatch, text: str) -> str:
    """The text after the change. Raises ``BadPatch`` where an old text is not found.

    A hunk is looked for where it says that it is, moved by what those before it were, and then
    further and further away: the nearest place counts. All its lines must be there exactly.
    """
    ends = "\r\n" if "\r\n" in text and "\n" not in text.replace("\r\n", "") else "\n"
    have = _lines(text.replace("\r\n", "\n") if ends == "\r\n" else text)
    done: list[str] = []
    taken = moved = 0
    for number, hunk in enumerate(patch.hunks, 1):
        wanted = max(hunk.line - 1, 0) if hunk.old else hunk.line
        at = _find(have, hunk.old, wanted + moved, taken)
        if at is None:
            raise BadPatch(_missing(patch, number, have, wanted + moved))
        moved = at - wanted
        done += [*have[taken:at], *hunk.new]
        taken = at + len(hunk.old)
    return "".join([*done, *have[taken:]]).replace("\n", ends)


def _lines(text: str) -> list[str]:
    parts = text.split("\n")
    return [f"{part}\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _find(have: list[str], old: tuple[str, ...], wanted: int, first: int) -> int | None:
    """The place nearest to ``wanted``, not before ``first``, at which the old lines stand."""
    if not old:
        return wanted if first <= wanted <= len(have) else None
    if first <= wanted and tuple(have[wanted : wanted + len(old)]) == old:
        return wanted
    return min(_places(have, old, first), key=lambda at: abs(at - wanted), default=None)


def _places(have: list[str], old: tuple[str, ...], first: int) -> Iterator[int]:
    """Every place at which the old lines stand, in linear time (Knuth, Morris, Pratt)."""
    back = [0] * len(old)
    same = 0
    for at in range(1, len(old)):
        while same and old[at] != old[same]:
            same = back[same - 1]
        same += old[at] == old[same]
        back[at] = same
    same = 0
    for at in range(first, len(have)):
        while same and (same == len(old) or have[at] != old[same]):
            same = back[same - 1]
        same += have[at] == old[same]
        if same == len(old):
            yield at - same + 1


def _missing(patch: FilePatch, number: int, have: list[str], wanted: int) -> str:
    """Quote where a hunk and the file part."""
    hunk = patch.hunks[number - 1]
    near = range(max(0, wanted - _NEAR), min(len(have), wanted + _NEAR))
    ranked = ((_agreeing(have, hunk.old, at), -abs(at - wanted), at) for at in near)
    same, _, best = max(ranked, default=(0, 0, min(wanted, len(have))))
    expected = hunk.old[same].rstrip("\n") if same < len(hunk.old) else ""
    found = have[best + same].rstrip("\n") if best + same < len(have) else None
    there = "the file ends" if found is None else f"the file has {found[:_QUOTED]!r}"
    return (
        f"Hunk {number} of {patch.old or patch.new} does not fit; nothing was changed. "
        f"At line {best + same + 1} it expects {expected[:_QUOTED]!r}, and {there}."
    )


def _agreeing(have: list[str], old: tuple[str, ...], at: int) -> int:
    """How many lines are the same from a place on."""
    limit = min(len(old), len(have) - at, _NEAR)
    return next((n for n in range(limit) if have[at + n] != old[n]), limit)
