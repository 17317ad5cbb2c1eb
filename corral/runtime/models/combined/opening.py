"""From a reference of several models to the model that asks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import assert_never

from corral.runtime.models.combined.cascade import Cascade
from corral.runtime.models.combined.confidence import ByAgreement, ByJudge, ByLogprob, Gauge
from corral.runtime.models.combined.contest import ChainTerms
from corral.runtime.models.combined.fallback import Fallback
from corral.runtime.models.combined.references import alternatives
from corral.runtime.models.combined.routing import Route
from corral.runtime.models.combined.settings import CombinedModel
from corral.runtime.models.contract import ChatModel

Open = Callable[[str], ChatModel]
"""Opens a model by its reference, the same object every time; it stays its owner's."""


def open_combined(
    ref: str, models: Mapping[str, CombinedModel], open_one: Open
) -> ChatModel | None:
    """The model that ``a | b`` or a name of ``[models.NAME]`` means; ``None`` for one model alone.

    Members are opened, so that a missing file or key is told before anything is asked. Raises
    what ``open_one`` raises. ``models`` have been checked (``references.check_names``).
    """
    several = alternatives(ref)
    if len(several) > 1:
        return Fallback(ref, [open_one(one) for one in several])
    return _opened(ref, models[ref], open_one) if ref in models else None


def asked_first(model: ChatModel) -> ChatModel:
    """The model that is asked first where one stands for several: to be loaded ahead."""
    match model:
        case Fallback(members=[first, *_]) | Cascade(members=[first, *_]):
            return asked_first(first)
        case Route(default=default):
            return asked_first(default)
        case _:
            return model


def _opened(name: str, model: CombinedModel, open_one: Open) -> ChatModel:
    if model.fallback:
        hedge = None if model.hedge_ms is None else model.hedge_ms / 1000
        terms = ChainTerms(hedge, model.refusals)
        return Fallback(name, [open_one(one) for one in model.fallback], terms)
    if model.cascade:
        members = [open_one(one) for one in model.cascade]
        return Cascade(name, members, _gauge(model, open_one), threshold=model.threshold)
    assert model.default is not None
    by_reference = {one: open_one(one) for one in model.references}
    return Route(name, model.route, model.default, by_reference)


def _gauge(model: CombinedModel, open_one: Open) -> Gauge:
    match model.confidence:
        case "logprob":
            return ByLogprob()
        case "agreement":
            return ByAgreement(model.samples)
        case "judge":
            assert model.judge is not None
            return ByJudge(open_one(model.judge))
        case other:
            assert_never(other)
