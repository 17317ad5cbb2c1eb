"""A model as the settings open it, without an agent around it."""

from __future__ import annotations

from corral.runtime.config import Settings
from corral.runtime.models.combined.opening import open_combined
from corral.runtime.models.configured import configured
from corral.runtime.models.contract import ChatModel
from corral.runtime.models.registry import open_model


def opened(ref: str, settings: Settings) -> ChatModel:
    """The model of a reference. Raises ``NotFoundError``, ``ConfigError`` and ``ModelError``."""

    def alone(one: str) -> ChatModel:
        combined = open_combined(one, settings.models, alone)
        return combined or open_model(one, configured(one, settings))

    return alone(ref)
