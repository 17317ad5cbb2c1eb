"""Texts of a page: made visible, cut to what a page can hold, and figures in words."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

# C0 without tab and newline, DEL, C1; bidirectional controls and marks; invisible separators and
# tags; lone surrogates, which no file can hold.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)


def visible(text: str) -> str:
    """A text with what is invisible, or makes others read otherwise than they are, written out."""
    return _UNSAFE.sub(_written_out, text.replace("\r\n", "\n"))


def _written_out(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape", "surrogatepass").decode("ascii")


@dataclass(frozen=True)
class Shown:
    """A text as the page shows it: its beginning, what is left out of the middle, and its end."""

    head: str
    left_out: int = 0
    tail: str = ""


class Room:
    """How much of each text a page shows, when all of them share ``budget`` characters.

    Short texts are whole; the long ones get the same length, ``most`` at the most.
    """

    def __init__(self, lengths: Iterable[int], *, budget: int, most: int) -> None:
        self._limit = most
        left, waiting = budget, sorted(lengths)
        for position, length in enumerate(waiting):
            fair = left // (len(waiting) - position)
            if length > fair:
                self._limit = min(most, max(fair, 200))
                break
            left -= length

    def show(self, text: str) -> Shown:
        """As much of the text as there is room for."""
        if len(text) <= self._limit:
            return Shown(text)
        tail = self._limit // 5
        head = self._limit - tail
        return Shown(text[:head], len(text) - self._limit, text[len(text) - tail :])


def headline(text: str, most: int = 120) -> str:
    """The beginning of a text, on one line."""
    flat = " ".join(text[: most * 4].split())
    cut = len(flat) > most or len(text) > most * 4
    return f"{flat[: most - 1]}…" if cut else flat


def pretty(value: Any) -> str:
    """A JSON value as a person reads it; a text as it is."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, indent=2)


def args_in_words(args: Any) -> str:
    """The arguments of a call, one under the other; a text as it is."""
    if not isinstance(args, dict):
        return pretty(args) if args else ""
    lines = []
    for name, value in args.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=2)
        lines.append(f"{name}:\n{text}" if "\n" in text else f"{name}: {text}")
    return "\n".join(lines)


def text_of(content: Any) -> str:
    """The text of a message's content: a string, or blocks of which some are text."""
    if isinstance(content, str):
        return content
    parts = []
    for block in content if isinstance(content, list) else ():
        if isinstance(block, str):
            parts.append(block)
        elif isinstance(block, dict):
            said = block.get("text") or block.get("thinking") or block.get("reasoning")
            calls = str(block.get("type")) in ("tool_use", "tool_call", "function_call")
            if said or not calls:
                parts.append(str(said or f"[{block.get('type')}]"))
    return "\n".join(parts)


def duration(ms: float | None) -> str:
    """A time in words: ``12 ms``, ``3.4 s``, ``2 min 5 s``, ``3 h 20 min``."""
    if ms is None or not math.isfinite(ms):
        return "?"
    if ms < 1000:
        return f"{ms:.0f} ms" if ms >= 10 or ms == round(ms) else f"{ms:.1f} ms"
    seconds = ms / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def money(usd: float) -> str:
    """US dollars, with as many digits as are needed to see anything."""
    if usd == 0:
        return "$0"
    return f"${usd:,.2f}" if usd >= 1 else f"${usd:.4f}" if usd >= 0.0001 else f"${usd:.2g}"


def moment(time: str | None) -> str:
    """A time of the journal as the page shows it, in UTC."""
    try:
        return datetime.fromisoformat(time or "").astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError):
        return time or "?"


def obj(value: Any) -> Mapping[str, Any]:
    """A JSON object; nothing in the place of what is none."""
    return value if isinstance(value, dict) else {}


def objs(value: Any) -> Sequence[Mapping[str, Any]]:
    """The objects of a JSON array; nothing in the place of what is none."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
