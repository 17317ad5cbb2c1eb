"""Long results: a model is shown a beginning and an end, and reads the rest by a handle.

The journal holds every result whole. A preview is a pure function of what it holds, so it is the
same when a run is resumed, replayed or forked.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from corral.jsontypes import JsonObject, digest
from corral.tools.contract import ToolSpec, harmless_tool

SERVER = "results"
"""The server's name under which stored results are read."""

LEAST = 500
"""Characters that a preview has at least: its notes take some 300 of them."""

_AT_LEAST, _AT_MOST = 1_000, 20_000  # characters of a preview when the settings say nothing
_HALF = 6  # of the digits of a handle are for the place, and as many for the text
_HANDLE = re.compile(rf"[0-9a-f]{{{2 * _HALF}}}")
_NOTES = 320  # characters that the notes of a preview may take


_HANDLE_SCHEMA: JsonObject = {"type": "string", "description": "The result's handle."}

READ = harmless_tool(
    SERVER,
    "read",
    "Read on in a long result that was shown in part.",
    {
        "handle": _HANDLE_SCHEMA,
        "offset": {"type": "integer", "minimum": 0, "description": "The character to begin at."},
        "limit": {"type": "integer", "minimum": 1, "description": "How many, at most."},
    },
    optional=("limit",),
)
SEARCH = harmless_tool(
    SERVER,
    "search",
    "Find where a text stands in a long result that was shown in part.",
    {
        "handle": _HANDLE_SCHEMA,
        "text": {"type": "string", "minLength": 1, "maxLength": 200},
    },
)
READERS = (READ, SEARCH)
"""The tools by which a model reads on in a long result."""


def reader(name: str) -> ToolSpec | None:
    """The reading tool that a model knows by ``name``."""
    return next((spec for spec in READERS if spec.name == name), None)


def readers(messages: Iterable[object]) -> tuple[ToolSpec, ...]:
    """The reading tools, where there is something to read.

    A thread that has had one long result has them from then on: they come once, and stay.
    """
    return READERS if any(_is_preview(message) for message in messages) else ()


class Reading:
    """The reading tools for a thread that grows: only what was added is looked at."""

    def __init__(self) -> None:
        self._seen: Sequence[object] = ()
        self._found: tuple[ToolSpec, ...] = ()

    def tools(self, messages: Sequence[object]) -> tuple[ToolSpec, ...]:
        """See ``readers``."""
        count = len(self._seen)
        if count > len(messages) or (count and messages[count - 1] is not self._seen[-1]):
            count, self._found = 0, ()
        self._found = self._found or readers(messages[count:])
        self._seen = messages
        return self._found


def preview_limit(setting: int | None, window: int) -> int:
    """Characters of a result that a model with a context window of ``window`` tokens is shown.

    Without a ``setting``, an eighth of the window for text at three characters a token.
    """
    return setting or min(_AT_MOST, max(_AT_LEAST, window * 3 // 8))


def handle_of(path: str, text: str) -> str:
    """The name of a result for a model: of its place in the graph, and of what it says.

    There is no run in it, so that the same conversation reads the same in another thread.
    """
    return place_digits(path) + digest(text)[:_HALF]


def place_digits(path: str) -> str:
    """The half of a handle that the path of an effect gives."""
    return digest(path)[:_HALF]


def is_handle(text: str) -> bool:
    """Whether a text could be a handle."""
    return _HANDLE.fullmatch(text) is not None


@dataclass(frozen=True)
class Seen:
    """What a model sees of a result.

    ``artifact`` goes beside the text in the message and is sent to no model: the handle of a result
    that is shown in part, and how many characters it has.
    """

    text: str
    artifact: JsonObject | None = None


def preview(text: str, path: str, limit: int) -> Seen:
    """A result of the effect at ``path``: in part, if it has more than ``limit`` characters.

    A ``limit`` of 0 is none.
    """
    if not limit or len(text) <= limit:
        return Seen(text)
    handle = handle_of(path, text)
    return Seen(_part(text, handle, limit), {"handle": handle, "characters": len(text)})


def _is_preview(message: object) -> bool:
    artifact = getattr(message, "artifact", None)
    return isinstance(artifact, dict) and "handle" in artifact


def _part(text: str, handle: str, limit: int) -> str:
    """The note comes first: whatever is abridged later, a beginning is kept."""
    room = max(0, limit - _NOTES)
    head = room * 2 // 3
    tail = room - head
    named = f'handle="{handle}"'
    note = (
        f"[A result of {len(text)} characters; here are the first {head} and the last {tail}. "
        f'{READ.name}({named}, offset={head}) reads on, {SEARCH.name}({named}, text="…") finds.]'
    )
    left_out = f"[… {len(text) - room} characters left out …]"
    return f"{note}\n{text[:head]}\n{left_out}\n{text[len(text) - tail :]}"
