"""The cache station: an answer that a model has given to the same request is given again.

It stands after recall, so that a replay and a resume know nothing of it. A hit goes on through
the other stations as a call that uses nothing: it is a step, it is checked, journaled and told, and
no model is asked. What went into the kept answer counts for the new one too: its label is joined.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog
from langchain_core.messages import AIMessage

from corral.errors import CorralError
from corral.jsontypes import JsonObject
from corral.policies.placeholders import tagged_in
from corral.policies.provenance.labels import KEY as LABEL
from corral.policies.provenance.labels import Label
from corral.runtime.caching import store
from corral.runtime.caching.contract import Question
from corral.runtime.caching.questions import Questions, is_deterministic
from corral.runtime.caching.settings import CacheSettings
from corral.runtime.caching.store import Kept
from corral.runtime.clock import ago
from corral.runtime.context import current_run
from corral.runtime.database import Database
from corral.runtime.effects import Attempt, Effect, Outcome
from corral.runtime.entries import Entry
from corral.runtime.events import TextDelta
from corral.runtime.housekeeping.retention import parse_age
from corral.runtime.messages import decode, encode, with_own_call_ids
from corral.runtime.stations.provenance import Tracker

log = structlog.get_logger()

KEY = "cache"
"""Where a journaled answer says that it was not made: ``exact`` or ``semantic``."""

_WHOLE = ("stop", "tool_calls")
"""How an answer ends that is worth keeping."""

_GIVEN = ("text", "stop_reason", "logprobs", LABEL)
"""What of an answer is given again as it was."""

_NOT_AS_ASKED = ("fallbacks", "hedged")
"""Facts of an answer that another model gave than would have the next time."""

_TIDY_EVERY = 64
"""Answers that are kept between two looks at what is to be let go."""


@dataclass(frozen=True)
class CacheTerms:
    """What is kept, and what is known of models.

    ``identity`` gives, by a model's reference, what its answers depend on besides the request;
    ``None``: they are not to be kept. ``embed`` makes a vector of length 1 of a text.
    """

    settings: CacheSettings = field(default_factory=lambda: CacheSettings(mode="off"))
    identity: Callable[[str], JsonObject | None] = lambda _model: None
    embed: Callable[[str], Awaitable[Sequence[float]]] | None = None


@dataclass(frozen=True)
class _Asked:
    """A request that was not answered from the cache; its answer will be kept."""

    question: Question
    vector: Sequence[float] | None


class ResponseCache:
    """The answers that one execution of a run may have, and those that it keeps."""

    def __init__(self, database: Database, tracker: Tracker, terms: CacheTerms) -> None:
        self._database = database
        self._tracker = tracker
        self._terms = terms
        self._questions = Questions()
        self._asked: dict[str, _Asked] = {}
        self._count = 0

    async def answered(self, effect: Effect, path: str) -> Effect:
        """The effect, with a kept answer in place of the model's if there is one."""
        question = self._question(effect)
        if question is None:
            return effect
        kept = await self._database.read(lambda connection: store.find(connection, question))
        vector = None
        if kept is None and self._terms.settings.mode == "semantic" and question.text:
            vector = await self._vector(question.text)
            kept = await self._similar(question, vector)
        if kept is None or not self._may_have(kept, effect, path):
            self._asked[path] = _Asked(question, vector)
            return effect
        key = kept.key
        self._database.submit(lambda connection: store.used(connection, key), durable=False)
        return _given(effect, kept)

    def keep(self, entry: Entry) -> None:
        """Keep what a model has answered, if it was asked because nothing was kept."""
        asked = self._asked.pop(entry.path, None)
        if asked is None or not _is_worth_keeping(entry.result or {}):
            return
        ttl = parse_age(getattr(self._terms.settings.ttl, asked.question.kind))
        expires_at = ago(-ttl)
        self._database.submit(
            lambda connection: store.keep(
                connection, asked.question, entry, expires_at, asked.vector
            ),
            durable=False,
        )
        self._tidy()

    def _question(self, effect: Effect) -> Question | None:
        settings = self._terms.settings
        if effect.kind != "model" or settings.mode == "off":
            return None
        identity = self._terms.identity(effect.name)
        if identity is None:
            return None
        sampling = effect.request["sampling"]
        if settings.when == "deterministic" and not is_deterministic(sampling, identity):
            return None
        return self._questions.of(effect, identity)

    async def _vector(self, text: str) -> Sequence[float] | None:
        if self._terms.embed is None:
            return None
        try:
            return await self._terms.embed(text)
        except CorralError as error:
            log.warning("prompt_not_compared", error=error.message)
            return None

    async def _similar(self, question: Question, vector: Sequence[float] | None) -> Kept | None:
        if vector is None:
            return None
        threshold = self._terms.settings.threshold
        return await self._database.read(
            lambda connection: store.find_similar(connection, question, vector, threshold)
        )

    def _may_have(self, kept: Kept, effect: Effect, path: str) -> bool:
        """Whether nothing went into a similar prompt's answer that may not go into this one's."""
        if kept.similarity == 1.0:
            return True
        own = self._tracker.label(effect, path, Outcome({}), made=True)
        if own is None:
            return False
        both = own.join(Label.from_json(kept.value.get(LABEL)))
        return replace(both, sources=()) == replace(own, sources=())

    def _tidy(self) -> None:
        if self._count % _TIDY_EVERY == 0:
            most = self._terms.settings.max_answers
            self._database.submit(lambda connection: store.let_go(connection, most), durable=False)
        self._count += 1


def _given(effect: Effect, kept: Kept) -> Effect:
    """The effect of giving a kept answer."""

    async def execute(attempt: Attempt) -> Outcome:
        message = decode(kept.value["message"])
        assert isinstance(message, AIMessage)
        used = current_run.get().call_ids.of(effect.transcript)
        message = with_own_call_ids(message, used, attempt.key)
        exact = kept.similarity == 1.0
        # Not the prompt it was the answer to: that is its own thread's, and is deleted with it.
        similar = {} if exact else {"similarity": kept.similarity}
        value = {
            **{name: kept.value[name] for name in _GIVEN if name in kept.value},
            "id": attempt.key,
            "message": encode(message),
            KEY: "exact" if exact else "semantic",
            "facts": {KEY: {"run": kept.run, "path": kept.path, **similar}},
        }
        if attempt.aloud and effect.request.get("purpose") == "answer" and value["text"]:
            current_run.get().emit(TextDelta(value["text"], path=attempt.path))
        return Outcome(value)

    return replace(effect, execute=execute, estimate=None)


def _is_worth_keeping(value: JsonObject) -> bool:
    """Whether an answer is whole, as it was asked for, and says the same to everybody."""
    facts = value.get("facts", {})
    return (
        value.get("stop_reason") in _WHOLE
        and not any(name in value for name in ("blocked", "told", "checks", KEY))
        and not any(name in facts for name in _NOT_AS_ASKED)
        and not tagged_in(value)
    )
