"""What the answers of several models depend on besides the request."""

from __future__ import annotations

from collections.abc import Iterable

from corral.jsontypes import Json, JsonObject
from corral.runtime.models.contract import ChatModel, Identified


def identity_of(model: ChatModel) -> JsonObject | None:
    """A model's own identity; ``None`` for one that has none, such as a script."""
    return model.identity if isinstance(model, Identified) else None


def identity_of_all(models: Iterable[ChatModel], how: Json) -> JsonObject | None:
    """That of a model over others, which asks them in a way that ``how`` says."""
    members = [identity_of(model) for model in models]
    return None if None in members else {"members": members, "how": how}
