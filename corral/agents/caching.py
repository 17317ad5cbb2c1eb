"""On what terms a run may have answers that were kept, and keep its own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from corral.agents.services import Shared
from corral.agents.spec import Agent
from corral.errors import ConfigError, CorralError
from corral.jsontypes import JsonObject
from corral.runtime.config import Settings
from corral.runtime.models.combined.identity import identity_of
from corral.runtime.models.contract import ChatModel
from corral.runtime.stations.response_cache import CacheTerms


def cache_terms(agent: Agent, shared: Shared) -> CacheTerms:
    """The terms of a run of this agent.

    Raises ``ConfigError`` where prompts would be compared by a model that must not see all of them.
    """
    own = {one.model: one.chat_model for one in agent.team() if one.chat_model is not None}
    known: dict[str, JsonObject | None] = {}

    def identity(ref: str) -> JsonObject | None:
        if ref not in known:
            known[ref] = _identity(own.get(ref), ref, shared.model)
        return known[ref]

    return CacheTerms(shared.settings.cache, identity, _embed(shared))


def _identity(
    own: ChatModel | None, ref: str, model: Callable[[str], ChatModel]
) -> JsonObject | None:
    try:
        return identity_of(own or model(ref))
    except (CorralError, OSError):
        return None  # it will be told when the model is asked


def _embed(shared: Shared) -> Callable[[str], Awaitable[Sequence[float]]] | None:
    ref = shared.settings.cache.embedding
    if shared.settings.cache.mode != "semantic":
        return None
    _require_own_machine(ref, shared.settings)

    async def embed(text: str) -> Sequence[float]:
        [vector] = await shared.embedding(ref).embed([text])
        return vector

    return embed


def _require_own_machine(ref: str, settings: Settings) -> None:
    """What hosted models are not shown has no stand-in here: two people would look the same."""
    if settings.redaction.hosted and ref.startswith("openai:"):
        raise ConfigError(
            f"Prompts would be compared by {ref}, which must not see all that is in them.",
            hint="Set embedding of [cache] to a model on this machine, or clear redaction.hosted.",
        )
