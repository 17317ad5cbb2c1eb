"""What in a text from a server looks as if it was written to deceive, in words.

No list of patterns finds every attack: what is found here is shown to a person and waits for them,
and what is not is still held by policy, the sandbox and the labels of what was read. Known attacks:
Invariant Labs, "MCP tool poisoning"; OWASP MCP Top 10, MCP03.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator

_HIDDEN = re.compile(
    "[\u200b\u200e\u200f\u2060-\u2064\u00ad\ufeff"  # no width: they split words, or carry bits
    "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0"  # fillers, likewise
    "\u061c\u202a-\u202e\u2066-\u2069"  # bidirectional: text that reads otherwise than it is
    "\u180b-\u180f\ufe00-\ufe0d\U000e0000-\U000e01ef"  # tags and selectors: no screen shows them
    "\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]"  # control characters and escapes
)
_INSTRUCTIONS = re.compile(
    r"<[ /]{0,3}(?:important|system|secret|instructions?|admin) {0,3}>"
    r"|\b(?:ignore|disregard|forget|override) (?:all |any |the |your )?(?:previous|prior|above|"
    r"earlier|other|system)\b"
    r"|\b(?:do not|don'?t|never) (?:tell|mention|inform|notify|reveal|show)\b[^.\n]{0,40}\buser\b"
    r"|\bwithout (?:telling|informing|notifying|asking) the user\b"
    r"|\b(?:hide|keep|conceal) (?:this|it) (?:a secret )?from the user\b"
    r"|\bsystem prompt\b"
    r"|\byou (?:must|should) (?:always |first )(?:call|use|read|send|pass)\b"
    r"|\bbefore (?:using|calling) (?:this|any)(?: other)? tools?, (?:read|call|send)\b",
    re.IGNORECASE,
)
_SECRETS = re.compile(
    r"~?/\.(?:ssh|aws|gnupg|netrc|kube|docker|cursor|claude)\b|\bid_(?:rsa|ed25519)\b"
    r"|/etc/(?:passwd|shadow)\b|\bmcp\.json\b|\.env\b(?! file name)",
    re.IGNORECASE,
)
_MOST = 100_000


def suspicions(texts: Iterable[str]) -> tuple[str, ...]:
    """Why these texts should be looked at, each reason once."""
    return tuple(dict.fromkeys(why for text in texts for why in _of(text[:_MOST])))


def _of(text: str) -> Iterator[str]:
    if found := _HIDDEN.search(text):
        yield f"holds a character that is not shown (U+{ord(found[0]):04X})"
    # However it is spaced, and in whatever letters that look the same to a model.
    plain = " ".join(unicodedata.normalize("NFKC", text).split())
    if found := _INSTRUCTIONS.search(plain):
        yield f"speaks to the model: {_quoted(found[0])}"
    if found := _SECRETS.search(text):
        yield f"names a place of secrets: {_quoted(found[0])}"


def _quoted(text: str) -> str:
    return repr(" ".join(text.split())[:60])
