"""What a keeper says about a piece of code that has ended, read by whoever asked.

It is untrusted: code can break its session's keeper and speak for it.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

STATUSES = ("ok", "error", "timeout", "interrupted", "crashed", "cancelled")


class Outcome(NamedTuple):
    """The fields of ``corral.sandbox.contract.Execution``; displays are a type and a content."""

    status: str
    stdout: str = ""
    stderr: str = ""
    value: str | None = None
    displays: tuple[tuple[str, str], ...] = ()
    error: str | None = None
    note: str = ""
    dropped: int = 0


LOST = Outcome(
    "crashed",
    note="The session was broken from inside and has ended. "
    "Its variables are gone; the next call starts with a new interpreter.",
)
"""The outcome where nothing that can be understood was said."""


def read_outcome(line: str) -> Outcome | None:
    """An outcome from the keeper's line, or ``None`` for anything else."""
    try:
        data: dict[str, Any] = json.loads(line)
        reply = data["reply"] or {"value": None, "displays": (), "error": None}
        status, error = data["status"], reply["error"]
        if status == "ok" and error is not None:
            status = "error"
        outcome = Outcome(
            status,
            data["stdout"],
            data["stderr"],
            reply["value"],
            tuple((mime, content) for mime, content in reply["displays"]),
            error,
            data["note"],
            data["dropped"],
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return outcome if _well_formed(outcome) else None


def _well_formed(one: Outcome) -> bool:
    texts = [one.stdout, one.stderr, one.note, one.value or "", one.error or ""]
    for display in one.displays:
        texts += display
    return (
        one.status in STATUSES
        and type(one.dropped) is int
        and all(type(text) is str for text in texts)
    )
