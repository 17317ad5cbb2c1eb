"""Which dialect a model is asked in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from corral.runtime.models.contract import ModelRequest, Sampling
from corral.runtime.models.hosted.dialects.anthropic import messages_call
from corral.runtime.models.hosted.dialects.call import Api, Call, Target
from corral.runtime.models.hosted.dialects.foreign import foreign_call
from corral.runtime.models.hosted.dialects.openai import chat_call, responses_call
from corral.runtime.models.hosted.endpoint import Endpoint
from corral.runtime.models.hosted.known_models import speaks_responses

_CALLS: Mapping[Api, Callable[[ModelRequest, Sampling, Target], Call]] = {
    "chat": chat_call,
    "responses": responses_call,
    "messages": messages_call,
    "foreign": foreign_call,
}


def call_for(request: ModelRequest, default: Sampling, target: Target) -> Call:
    """The request in the target's dialect; ``default`` holds where it says nothing.

    Raises ``ModelError`` for a content that the model does not take.
    """
    return _CALLS[target.api](request, merged(request.sampling, default), target)


def api_of(endpoint: Endpoint | None) -> Api:
    """The protocol that is spoken at an endpoint; without one, a langchain model's own."""
    if endpoint is None:
        return "foreign"
    if endpoint.provider == "anthropic":
        return "messages"
    return "responses" if endpoint.official and speaks_responses(endpoint.model) else "chat"


def merged(wanted: Sampling, default: Sampling) -> Sampling:
    """``wanted``, with ``default`` where it says nothing."""
    given = {key: value for key, value in vars(wanted).items() if value not in (None, ())}
    return replace(default, **given)
