"""Unified diffs of bounded size, made in bounded time."""

from __future__ import annotations

import re

MAX_DIFF = 20_000
"""The longest diff that is given back, in characters."""

_COMPARED = 500  # lines that are compared one by one; more are shown as replaced
_CONTEXT = 3
_START = re.compile(r"([-+])(\d+)")


def unified(path: str, before: str | None, after: str | None) -> str:
    """What changes in a file; ``None`` for one that is not there. Empty when nothing does."""
    if before == after:
        return ""
    old, new = (_lines(text) for text in (before, after))
    names = ["--- /dev/null" if before is None else f"--- a/{path}"]
    names += ["+++ /dev/null" if after is None else f"+++ b/{path}"]
    start = _same(old, new)
    end = _same(old[start:][::-1], new[start:][::-1])
    first, tail = max(0, start - _CONTEXT), max(0, end - _CONTEXT)
    hunks = _hunks(old[first : len(old) - tail], new[first : len(new) - tail], first)
    text = "\n".join([*names, *(hunks or ["(only the ends of lines change)"])])
    return text if len(text) <= MAX_DIFF else text[:MAX_DIFF] + "\n[the diff goes on]"


def _lines(text: str | None) -> list[str]:
    return text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []


def _same(old: list[str], new: list[str]) -> int:
    limit = min(len(old), len(new))
    return next((at for at in range(limit) if old[at] != new[at]), limit)


def _hunks(old: list[str], new: list[str], first: int) -> list[str]:
    import difflib  # only a change needs it

    if max(len(old), len(new)) > _COMPARED:
        head = f"@@ -{first + 1},{len(old)} +{first + 1},{len(new)} @@"
        return [head, *(f"-{line}" for line in old), *(f"+{line}" for line in new)]
    lines = list(difflib.unified_diff(old, new, n=_CONTEXT, lineterm=""))[2:]
    return [_moved(line, first) if line.startswith("@@") else line for line in lines]


def _moved(head: str, by: int) -> str:
    """A hunk's head with the lines counted that were not compared."""
    return _START.sub(lambda match: f"{match[1]}{int(match[2]) + by}", head)
