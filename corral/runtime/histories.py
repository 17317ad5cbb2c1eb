"""What each agent of a run has done, as far as loops can be seen in it, told from the journal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from corral.jsontypes import JsonObject
from corral.policies.loops import Call, History, Turn, Verdict
from corral.runtime.entries import Entry
from corral.runtime.paths import places

QUESTION = "/loop/"
"""Stands in the path of a question about a loop, after that of the effect."""

_NOTE = "You are going round in circles:"


def note(verdict: Verdict, advice: str) -> str:
    """What a model is told of a loop, together with its next question."""
    return f"{_NOTE} {verdict.seen}. {advice}"


def refused(value: JsonObject, verdict: Verdict) -> JsonObject:
    """The result of a call that is not made because it would go on with a loop."""
    return {**value, "loop": {"kind": verdict.kind, "seen": verdict.seen}}


class Histories:
    """The histories of the conversations of one run, by their scopes (``paths.conversation``)."""

    def __init__(self) -> None:
        self._of: defaultdict[str, History] = defaultdict(History)

    def of(self, scope: str) -> History:
        """What the agent has done in this conversation."""
        return self._of[scope]

    def add(self, entry: Entry, scope: str) -> None:
        """An effect of the agent, or a question about one, has ended."""
        result = entry.result or {}
        match entry.kind:
            case "model":
                _add_answer(self._of[scope], entry.request, result)
            case "tool" | "agent":
                _add_call(self._of[scope], entry, result)
            case "approval" if QUESTION in entry.path and result.get("status") == "approved":
                # A human lets it go on for as many again: what was before is forgotten.
                self._of.pop(scope, None)
            case _:
                pass


def turn_of(path: str) -> Turn:
    """The step and the branch that asked for an effect."""
    place = places(path)
    return (place[-1].step, place[-1].task) if place else (0, "")


def in_order_of_ends(entries: Iterable[Entry]) -> list[Entry]:
    """The entries as they ended; what has no place among the ends comes when it was asked for."""
    order: dict[str, int] = {}
    newest = 0
    for entry in sorted(entries, key=lambda entry: entry.seq):
        newest = max(newest, entry.ended or 0)
        order[entry.path] = entry.ended or newest
    return sorted(entries, key=lambda entry: (order[entry.path], entry.seq))


def _add_answer(history: History, request: JsonObject, result: JsonObject) -> None:
    if request.get("purpose", "answer") != "answer":
        return
    if any(str(told).startswith(_NOTE) for told in result.get("told", ())):
        history.told()
    messages: Sequence[JsonObject] = request.get("messages", ())
    for message in messages:
        if message.get("type") in ("human", "system"):
            history.heard(_text(message.get("content")))
    goes_on = any(message.get("type") == "ai" for message in messages)
    history.said(str(result.get("text", "")), goes_on=goes_on)


def _add_call(history: History, entry: Entry, result: JsonObject) -> None:
    if "loop" in result:
        history.alarmed(turn_of(entry.path))
        return
    call = Call(entry.name, dict(entry.request.get("args") or {}))
    history.made(call, str(result.get("text", "")), is_error=bool(result.get("is_error")))


def _text(content: Any) -> str:
    if isinstance(content, list):
        parts = (part.get("text", "") for part in content if isinstance(part, dict))
        return "\n".join(str(part) for part in parts)
    return str(content or "")
