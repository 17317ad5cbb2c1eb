"""How an answer came about, in words: who was asked before, where it was routed, what was kept.

A journal may come from a stranger, so facts of another shape than ours say nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from corral.jsontypes import Json, JsonObject
from corral.runtime.export.model_names import ModelName


def how_answered(result: Json) -> list[str]:
    """The facts in a model call's result, one text each; the texts are not cleaned."""
    facts = result.get("facts") if isinstance(result, dict) else None
    if not isinstance(facts, dict):
        return []
    return [
        *_from_cache(facts.get("cache")),
        *_each(facts.get("routed"), _routed),
        *_each(facts.get("cascade"), _doubted),
        *_each(facts.get("fallbacks"), _failed),
        *_each([facts.get("hedged")], _hedged),
    ]


def attributes_of(result: Json) -> JsonObject:
    """The same for OpenTelemetry, without what a model's server said."""
    facts = result.get("facts") if isinstance(result, dict) else None
    if not isinstance(facts, dict) or not isinstance(result, dict):
        return {}
    kept = result.get("cache")
    return {
        "corral.cache": kept if isinstance(kept, str) else None,
        "corral.fallbacks": _list(facts.get("fallbacks"), _kind_of_failure),
        "corral.cascade": _list(facts.get("cascade"), _score),
        "corral.routed": _list(facts.get("routed"), _route),
        "corral.hedged": next(_each([facts.get("hedged")], _second), None),
    }


def _each(items: Any, words: Any) -> Iterator[str]:
    for item in items if isinstance(items, list) else ():
        if isinstance(item, dict) and (said := words(item)):
            yield said


def _list(items: Any, words: Any) -> list[str] | None:
    return list(_each(items, words)) or None


def _from_cache(found: Any) -> Iterator[str]:
    match found:
        case {"run": str(run), "similarity": float(similarity)}:
            yield f"from the cache: what {run} was told to a similar prompt ({similarity:.2%})"
        case {"run": str(run)}:
            yield f"from the cache: what {run} was told"


def _routed(item: JsonObject) -> str:
    match item:
        case {"to": str(to), "because": str(because)}:
            return f"routed to {to} ({because})"
    return ""


def _route(item: JsonObject) -> str:
    match item:
        case {"to": str(to), "because": str(because)}:
            return f"{_name(to)}: {because}"
    return ""


def _doubted(item: JsonObject) -> str:
    match item:
        case {
            "model": str(model),
            "confidence": int() | float() as score,
            "threshold": int() | float() as limit,
        }:
            return f"{model} was sure to {score:.0%}, and {limit:.0%} is enough"
        case {"model": str(model), "why": str(why)} | {"model": str(model), "error": str(why)}:
            return f"{model}: {why}"
    return ""


def _score(item: JsonObject) -> str:
    match item:
        case {"model": str(model), "confidence": int() | float() as score}:
            return f"{_name(model)}: {score}"
        case {"model": str(model), "confidence": None}:
            return f"{_name(model)}: unknown"
    return ""


def _failed(item: JsonObject) -> str:
    match item:
        case {"model": str(model), "error": str(error)}:
            return f"{model} did not answer: {error}"
    return ""


def _kind_of_failure(item: JsonObject) -> str:
    match item:
        case {"model": str(model), "kind": str(kind)}:
            return f"{_name(model)}: {kind}"
    return ""


def _hedged(item: JsonObject) -> str:
    match item:
        case {"first": str(first), "second": str(second), "after_ms": int(after)}:
            return f"{second} was asked beside {first} after {after} ms"
    return ""


def _second(item: JsonObject) -> str:
    match item:
        case {"second": str(second), "after_ms": int(after)}:
            return f"{_name(second)}: {after} ms"
    return ""


def _name(model: str) -> str:
    """A model as telemetry names it, without the folder of a file."""
    return ModelName.of(model).name
