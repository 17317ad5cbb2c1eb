"""Text from outside made safe to show: control characters out, length bounded.

A tool server's words reach a terminal and a model. Escape sequences could repaint the one, text
that nobody can see could instruct the other.
"""

from __future__ import annotations

import re

_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor movement
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC and other strings: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]?"
)
_NEWLINES = re.compile(r"\r\n?")
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"
    "\u202a-\u202e\u2066-\u2069"  # bidirectional overrides: text that reads otherwise than it is
    "\ud800-\udfff"  # lone surrogates: cannot be stored as UTF-8
    "\U000e0000-\U000e007f]"  # tag characters: ASCII that no screen shows
)


# Of what ``visible`` writes out: C0 without tab and newline, DEL and C1 move the cursor or start
# escape sequences; bidirectional controls reorder what is read; spaces without width, fillers and
# tag characters are invisible; a line separator is no newline; lone surrogates cannot be encoded.
# Joiners stay: scripts need them.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u115f\u1160\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e007f\ud800-\udfff]"
)


def visible(text: str) -> str:
    """``text`` with every character that could deceive a terminal or its reader written out.

    What a person decides about must show all that is in it. A carriage return before a newline is
    dropped; anything else that is unsafe becomes ``\\x1b`` or the like.
    """
    return _UNSAFE.sub(_written_out, text.replace("\r\n", "\n"))


def _written_out(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape", "surrogatepass").decode("ascii")


def clean(text: str) -> str:
    """``text`` without escape sequences, control and invisible characters; newlines are ``\\n``."""
    return _INVISIBLE.sub("", _NEWLINES.sub("\n", _ESCAPES.sub("", text)))


def one_line(text: str, limit: int = 200) -> str:
    """``text`` cleaned, on one line, at most ``limit`` characters."""
    line = " ".join(clean(text[: 4 * limit]).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def visible_line(text: str, limit: int) -> str:
    """The first ``limit`` characters of ``text`` on one line, ``visible``, with a mark when cut."""
    flat = visible(" ".join(text[: 8 * limit].split()))
    cut = len(flat) > limit or len(text) > 8 * limit
    return flat[: limit - 1] + "…" if cut else flat


def cap(text: str, limit: int, dropped: int = 0) -> tuple[str, int]:
    """``text`` in at most ``limit`` characters, and how many were left out of its middle.

    ``dropped`` characters were left out before, by an earlier cap at a higher limit; they count.

    The head gets two thirds of the room and the tail the rest: a listing is read from its start, a
    log from its end. The note that says how many were left out counts towards ``limit``; a limit
    too small for a note gives the bare head.
    """
    if len(text) <= limit:
        return text, dropped
    room = limit - len(_note(len(text) + dropped))
    if room < 0:
        return text[:limit], dropped + len(text) - limit
    head = room * 2 // 3
    tail = room - head
    dropped += len(text) - room
    end = text[len(text) - tail :]
    return f"{text[:head]}{_note(dropped)}{end}", dropped


def _note(dropped: int) -> str:
    return f"\n… {dropped:,} characters left out …\n"
