"""What differs between the effect that a graph asks for and the one that the journal holds."""

from __future__ import annotations

import difflib
import json

from corral.jsontypes import Json
from corral.runtime.effects import Effect
from corral.runtime.entries import Entry
from corral.runtime.journal import Journal
from corral.runtime.messages import encode
from corral.runtime.paths import in_words

_LINES = 40


def describe(entry: Entry, effect: Effect, journal: Journal) -> str:
    """The two requests as a diff that a person can read, with where in the graph they met."""
    recorded = journal.full_request(entry)
    asked = dict(effect.request)
    if effect.transcript:
        messages = effect.transcript
        if "earlier" in recorded:
            messages = journal.without_earlier(messages)
            asked["earlier"] = len(effect.transcript) - len(messages)
        asked["messages"] = [encode(message) for message in messages]
    diff = list(
        difflib.unified_diff(
            _lines(recorded), _lines(asked), "recorded", "asked for now", lineterm="", n=2
        )
    )
    shown = diff[:_LINES]
    if len(diff) > _LINES:
        shown.append(f"… {len(diff) - _LINES} more lines")
    head = (
        f"At effect {entry.seq} ({in_words(entry.path)}; {entry.path}) the {entry.kind} effect "
        f"{entry.name} was recorded, and the graph asks for the {effect.kind} effect {effect.name}."
    )
    return "\n".join([head, *shown])


def _lines(value: Json) -> list[str]:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).splitlines()
