"""What the name of an argument says about its value."""

from __future__ import annotations

import re
from functools import lru_cache

_CONTENT = frozenset(
    {"content", "contents", "text", "data", "edits", "old", "new", "old_text", "new_text"}
    | {"old_str", "new_str", "old_string", "new_string", "oldText", "newText", "patch", "diff"}
)
_PROSE = frozenset(
    {"body", "code", "comment", "description", "instructions", "message", "prompt", "query"}
    | {"subject", "summary", "task", "title"}
)


def is_content_name(name: str) -> bool:
    """Whether an argument of this name holds what is written somewhere: ``content``, ``edits``."""
    return name in _CONTENT


def is_prose_name(name: str) -> bool:
    """Whether an argument of this name holds a text that names no file by itself."""
    return name in _CONTENT or name in _PROSE


@lru_cache(maxsize=1024)
def last_word(name: str) -> str:
    """``path`` of ``filePath``, ``file_path`` and ``PATH2``."""
    last = re.split(r"[_\-.\s]+", name.rstrip("0123456789_"))[-1]
    hump = re.search(r"[A-Z][a-z]+$", last)
    return (hump.group() if hump else last).lower()
