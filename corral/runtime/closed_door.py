"""The closed door of a replay: it gives what the journal holds, and lets nothing happen."""

from __future__ import annotations

from collections.abc import Callable

from langgraph.types import interrupt

from corral.errors import DivergenceError, RunError
from corral.jsontypes import JsonObject, digest
from corral.policies.provenance.labels import unlabelled
from corral.runtime.context import inside
from corral.runtime.divergence import describe
from corral.runtime.effects import Attempt, Effect, Outcome
from corral.runtime.entries import Entry
from corral.runtime.journal import Journal
from corral.runtime.paths import asked_about, in_words, is_about_another
from corral.runtime.turns import Turns

PREPARE = "prepare"
"""The path of what a run looks up before its graph begins."""

Progress = Callable[[int, int], None]
"""Told how many effects a replay has met, and of how many. Called in the replay's own thread."""


class ClosedDoor:
    """A door that only recalls. It remembers what was asked for and the first difference."""

    def __init__(self, journal: Journal, turns: Turns, progress: Progress | None = None) -> None:
        self._journal = journal
        self._turns = turns
        self._progress = progress
        self._of = len(journal.entries())
        self.recalled: set[str] = set()
        self.divergence: str | None = None

    def holds(self, path: str) -> Entry | None:
        """What the journal holds of the effect at ``path``."""
        return self._journal.find(path)

    async def perform(self, effect: Effect, path: str) -> Outcome:
        """What the journal holds for ``path``; an effect that is pure is made again.

        A run that did not complete ends where its journal ends: the task that asks for more
        waits there, as for a human, so that its siblings are replayed too.
        """
        entry = self._journal.find(path)
        if effect.pure and self._journal.holds_inside(path):
            return await self._again(effect, path, entry)
        if entry is None:
            return await self._beyond(effect, path)
        self._check(effect, entry)
        if entry.status in ("started", "waiting"):
            return await self._beyond(effect, path)
        self._met_at(path)
        if not self._journal.is_settled(entry):
            return await self._beyond(effect, path)
        return await self._turns.answer(entry)

    def _met_at(self, path: str) -> None:
        self.recalled.add(path)
        if self._progress is not None:
            self._progress(len(self.recalled), self._of)

    def _check(self, effect: Effect, entry: Entry) -> None:
        if not self._journal.matches(entry, effect, self._journal.identify(effect)):
            raise self._diverged(describe(entry, effect, self._journal))

    async def _again(self, effect: Effect, path: str, entry: Entry | None) -> Outcome:
        """Run the graph inside of an effect, whose own effects are recalled in turn."""
        if entry is not None:
            self._check(effect, entry)
            self._met_at(path)
        with inside(path, agent=effect.name):
            outcome = await effect.execute(Attempt(path, path, 0))
        if entry is None:
            return outcome
        if entry.status == "finished" and _says(outcome.value) != _says(entry.result or {}):
            raise self._diverged(
                f"At {in_words(path)} ({path}) {entry.name} gives {outcome.value} "
                f"now and gave {entry.result}."
            )
        return await self._turns.answer(entry)

    async def _beyond(self, effect: Effect, path: str) -> Outcome:
        """The journal holds no end of this. The graph may have given it up before it began."""
        try:
            return await self._turns.never(path)
        except DivergenceError:
            if path == PREPARE:
                raise RunError("The run was stopped before its first step.") from None
            if not self._journal.is_over:
                interrupt({"end_of_journal": path})
            raise self._diverged(
                f"At {in_words(path)} ({path}) the graph asks for a {effect.kind} effect "
                f"({effect.name}) that the journal does not hold."
            ) from None

    def _diverged(self, text: str) -> DivergenceError:
        self.divergence = self.divergence or text
        return DivergenceError(text)

    def missed(self) -> list[Entry]:
        """Recorded effects that the graph did not ask for, oldest first.

        A question to a human and what a check took belong to the effect that they were about, and
        are met with it.
        """
        return [
            entry
            for entry in self._journal.entries()
            if entry.status in ("finished", "failed")
            and entry.path not in self.recalled
            and not self._met_with_another(entry.path)
        ]

    def _met_with_another(self, path: str) -> bool:
        while is_about_another(path):
            path = asked_about(path)
            asked = self._journal.find(path)
            if path in self.recalled or asked is None or asked.status in ("started", "waiting"):
                return True
        return False


def _says(value: JsonObject) -> str:
    """What an outcome says, by its digest; a replay lets nothing happen and needs no labels."""
    return digest(unlabelled(value))
