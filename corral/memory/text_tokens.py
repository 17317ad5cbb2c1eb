"""How many tokens a text may take, by its letters. ``tokens.py`` does it for messages."""

from __future__ import annotations

import string

_LOWER = string.ascii_lowercase.encode()
_SPACE = b" "
_ASCII = bytes(range(128))


def text_tokens(text: str) -> int:
    """Estimated tokens of a text."""
    data = text.encode("utf-8", "surrogatepass")
    lower = len(data) - len(data.translate(None, _LOWER))
    spaces = data.count(_SPACE)
    foreign = len(data.translate(None, _ASCII))
    single = len(data) - lower - spaces - foreign
    return -(-lower // 3) + spaces // 8 + -(-foreign * 3 // 4) + single
