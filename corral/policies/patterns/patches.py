"""The files that a unified diff names, as the tool that applies it reads them.

A file starts at a line ``--- `` that a line ``+++ `` follows. What a hunk holds can look like
that as well; it is taken for a file then, so that none is overlooked.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

from corral.policies.patterns.names import last_word

_NAMES = frozenset({"patch", "patches", "diff", "diffs"})
_NOTHING = "/dev/null"


def is_patch_name(name: str) -> bool:
    """Whether an argument of this name holds a unified diff: ``patch``, ``unified_diff``."""
    return last_word(name) in _NAMES


@lru_cache(maxsize=64)
def patched_paths(text: str) -> tuple[str, ...]:
    """The names of all files that a patch may change, each once, in order."""
    lines = text.replace("\r\n", "\n").split("\n")
    found = (
        name
        for old, new in pairwise(lines)
        if old.startswith("--- ") and new.startswith("+++ ")
        for name in _names(old, new)
    )
    return tuple(dict.fromkeys(found))


def _names(old_line: str, new_line: str) -> Iterator[str]:
    old, new = (line[4:].split("\t")[0].rstrip() for line in (old_line, new_line))
    bare = all(
        name == _NOTHING or name.startswith(prefix) for name, prefix in ((old, "a/"), (new, "b/"))
    )
    for name in (old, new):
        if name != _NOTHING:
            yield name[2:] if bare else name
