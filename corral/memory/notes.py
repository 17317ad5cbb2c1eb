"""Remembered facts in a thread: notes of their own, each before the prompt that it was found for.

They stay where they were first shown, so that what a model is sent begins as it did the turn
before. A fact that is still in view is not shown twice, one that was forgotten is shown no more.

The thread keeps a log of them beside its messages. Everything here is pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage

from corral.jsontypes import JsonObject
from corral.memory.labelled import labelled
from corral.memory.store import Memory, facts_message
from corral.policies.provenance.labels import PUBLIC, Label

_ID = "/notes"  # ends the id of a message of notes, which begins with that of its prompt


def append(log: Any, writes: Sequence[Any]) -> list[JsonObject]:
    """The reducer of the channel with the log."""
    return [*(log or ()), *(entry for write in writes for entry in write)]


def note(log: Sequence[JsonObject], prompt: str | None, facts: Sequence[Memory]) -> JsonObject:
    """The entry of a log that says which facts were found for a prompt, by the message's id.

    A fact is in the log once, however often it is found.
    """
    told = _told(log)
    return {
        "prompt": prompt,
        "shown": [fact.id for fact in facts],
        "facts": [fact.to_json() for fact in facts if fact.id not in told],
    }


def forgetting(ids: Sequence[str]) -> JsonObject:
    """The entry that says which facts are not remembered any more."""
    return {"forgotten": list(ids)}


def known(log: Sequence[JsonObject]) -> list[str]:
    """The ids of the facts that a thread can still show."""
    return list(_told(log))


def is_noted(log: Sequence[JsonObject], prompt: str | None) -> bool:
    """Whether the facts for a prompt have been looked up."""
    return any(entry.get("prompt") == prompt for entry in log)


def is_notes(message: BaseMessage) -> bool:
    """Whether a message is notes, which belong to the message after it."""
    return isinstance(message, HumanMessage) and (message.id or "").endswith(_ID)


def turn_begin(messages: Sequence[BaseMessage], cut: int) -> int:
    """Where the turn begins that a cut at this index goes through; the cut itself, if none."""
    if cut >= len(messages) or isinstance(messages[cut], HumanMessage):
        return cut
    begins = (at for at in range(cut - 1, -1, -1) if isinstance(messages[at], HumanMessage))
    return next(begins, cut)


@dataclass(frozen=True)
class Noted:
    """A thread's messages with the notes among them.

    ``places`` says for each message of the thread where it begins, its notes included.
    """

    messages: list[BaseMessage]
    places: list[int] = field(repr=False)

    def place(self, covered: int) -> int:
        """How many of these messages the first ``covered`` of the thread are."""
        return self.places[covered] if covered < len(self.places) else len(self.messages)

    def covered(self, place: int) -> int:
        """How many messages of the thread the first ``place`` of these are."""
        return sum(begin < place for begin in self.places)


class Notes:
    """The notes of one thread in one run. Not shared between tasks.

    As long as the thread grows at its end, only what was added is looked at.
    """

    def __init__(self) -> None:
        self._log: list[JsonObject] = []
        self._covered = 0
        self._begin = 0
        self._known: list[BaseMessage] = []
        self._told: Mapping[str, Memory] = {}
        self._shown_at: Mapping[str | None, Sequence[str]] = {}
        self._in_view: set[str] = set()
        self._messages: list[BaseMessage] = []
        self._places: list[int] = []

    def among(
        self, messages: Sequence[BaseMessage], log: Sequence[JsonObject], covered: int
    ) -> Noted:
        """The messages of a thread with their notes.

        What a summary stands for, the first ``covered`` messages, shows nothing any more: a fact
        from there that is found again is shown again. So are those of a turn that goes on behind
        the cut.
        """
        if not log:
            return Noted(list(messages), list(range(len(messages))))
        if not self._goes_on(messages, log, covered):
            self._start(messages, log, covered)
        for message in messages[len(self._known) :]:
            self._add(message)
        return Noted(list(self._messages), list(self._places))

    def _goes_on(
        self, messages: Sequence[BaseMessage], log: Sequence[JsonObject], covered: int
    ) -> bool:
        count = len(self._known)
        is_same = (covered, list(log)) == (self._covered, self._log)
        return is_same and covered < count and list(messages[:count]) == self._known

    def _start(
        self, messages: Sequence[BaseMessage], log: Sequence[JsonObject], covered: int
    ) -> None:
        self._log, self._covered, self._begin = list(log), covered, turn_begin(messages, covered)
        self._known, self._messages, self._places = [], [], []
        self._in_view = set()
        self._told = _told(log)
        self._shown_at = {entry["prompt"]: entry["shown"] for entry in log if "prompt" in entry}

    def _add(self, message: BaseMessage) -> None:
        if len(self._known) == self._begin:
            self._in_view.clear()
        found = [one for one in self._shown_at.get(message.id, ()) if one in self._told]
        new = tuple(self._told[one] for one in found if one not in self._in_view)
        self._in_view.update(found)
        self._known.append(message)
        self._places.append(len(self._messages))
        self._messages += [_notes(f"{message.id}{_ID}", new), message] if new else [message]


def _told(log: Sequence[JsonObject]) -> Mapping[str, Memory]:
    """The facts of a log, without those that were forgotten since."""
    told: dict[str, Memory] = {}
    for entry in log:
        for one in entry.get("forgotten", ()):
            told.pop(one, None)
        told.update((fact.id, fact) for fact in _facts(entry))
    return told


def _facts(entry: JsonObject) -> Iterator[Memory]:
    return (Memory.from_json(fact) for fact in entry.get("facts", ()))


@lru_cache(maxsize=1024)
def _notes(name: str, facts: tuple[Memory, ...]) -> HumanMessage:
    """The message with these facts: the same object at every step."""
    label: Label = PUBLIC.join(*(fact.provenance for fact in facts))
    return labelled(HumanMessage(facts_message(facts) or "", id=name), label)
