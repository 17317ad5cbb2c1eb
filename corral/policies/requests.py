"""What the user has written: their own words, and what they have pasted into them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from corral.policies.provenance.labels import USER, Label

PASTED = Label(("text that the user pasted",), untrusted=True)
"""What stands in a request and somebody else may have written."""

LONG_QUOTATION = 120
"""Characters of a quotation from which on it is somebody else's text, and no name or title."""

_FENCE = re.compile(r"^\s*(?:```|~~~)")
_FORWARDED = re.compile(
    r"^\s*(?:-{2,}\s*(?:original message|forwarded message|begin forwarded).*"
    r"|begin forwarded message:?|from:\s+\S.*|subject:\s+\S.*|on\s.{4,80}\swrote:)\s*$",
    re.IGNORECASE,
)
_QUOTATION = re.compile(r"[\"\u201c\u00ab](?P<said>[^\"\u201c\u201d\u00ab\u00bb]+)[\"\u201d\u00bb]")
_ELEMENT = re.compile(r"<(?P<name>[A-Za-z][\w-]{0,40})[^<>]{0,200}>.*</(?P=name)>", re.DOTALL)


def own_words(request: str) -> str:
    """A request without what was pasted: quoted lines, fenced blocks, forwarded mail, elements.

    Where a forwarded mail begins, the rest of the request is taken for it. What is pasted may close
    its fence or its element itself and go on, so all up to the last one that closes is left out.
    """
    kept: list[str] = []
    for line in _without_fenced(_without_elements(request).splitlines()):
        if _FORWARDED.match(line):
            break
        if not line.lstrip().startswith((">", "|")):
            kept.append(line)
    return _QUOTATION.sub(_short_quotation, "\n".join(kept))


def request_label(request: str) -> Label:
    """The label of a request: the user's, and untrusted where something is pasted into it."""
    pasted = own_words(request).split() != request.split()
    return USER.join(PASTED) if pasted else USER


def _without_fenced(lines: Sequence[str]) -> Sequence[str]:
    """The lines before the first fence and after the last; none after one that stays open."""
    fences = [at for at, line in enumerate(lines) if _FENCE.match(line)]
    if not fences:
        return lines
    after = lines[fences[-1] + 1 :] if len(fences) % 2 == 0 else ()
    return [*lines[: fences[0]], *after]


def _without_elements(text: str) -> str:
    return _ELEMENT.sub("\n", text) if text.count("<") <= _MAX_ELEMENTS else text.split("<", 1)[0]


def _short_quotation(found: re.Match[str]) -> str:
    return found[0] if len(found["said"]) < LONG_QUOTATION else ""


_MAX_ELEMENTS = 200
