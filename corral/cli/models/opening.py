"""A model as the settings open it, without an agent around it."""

from __future__ import annotations

import os

from corral.runtime.config import Settings
from corral.runtime.models.combined.opening import open_combined
from corral.runtime.models.contract import ChatModel, Sampling
from corral.runtime.models.registry import ModelOptions, open_model


def opened(ref: str, settings: Settings) -> ChatModel:
    """The model of a reference. Raises ``NotFoundError``, ``ConfigError`` and ``ModelError``."""

    def alone(one: str) -> ChatModel:
        return open_combined(one, settings.models, alone) or open_model(
            one, _options(one, settings)
        )

    return alone(ref)


def _options(ref: str, settings: Settings) -> ModelOptions:
    return ModelOptions(
        sampling=Sampling(**settings.sampling.model_dump()),
        base_url=settings.base_url,
        context_window=settings.context_window,
        environ=os.environ,
        local=settings.local,
        hosted=settings.hosted,
        price=settings.prices.get(ref),
    )
