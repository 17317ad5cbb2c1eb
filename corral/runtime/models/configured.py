"""How the settings say that a model is opened."""

from __future__ import annotations

import os
from pathlib import Path

from corral.runtime.config import Settings
from corral.runtime.models.contract import Sampling
from corral.runtime.models.registry import ModelOptions


def configured(ref: str, settings: Settings, states: Path | None = None) -> ModelOptions:
    """The options of the model that ``ref`` names; for ``states`` see ``ModelOptions``."""
    return ModelOptions(
        sampling=Sampling(**settings.sampling.model_dump()),
        base_url=settings.base_url,
        context_window=settings.context_window,
        environ=os.environ,
        local=settings.local,
        hosted=settings.hosted,
        price=settings.prices.get(ref),
        states=states,
    )
