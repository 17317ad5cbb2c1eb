"""What the model calls of a run were offered, and what it cost: read from its journal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from corral.runtime.entries import Entry
from corral.runtime.paths import scopes
from corral.runtime.tool_tokens import definition_tokens
from corral.runtime.views import EffectView
from corral.tools.contract import ToolSpec


@dataclass(frozen=True)
class ToolCost:
    """How many of the ``known`` tools a model call was offered, and the ``tokens`` of those."""

    offered: int
    known: int
    tokens: int

    def in_words(self) -> str:
        """``17 of 512 tools, ~1,900 tokens``."""
        return f"{self.offered} of {self.known} tools, ~{self.tokens:,} tokens"


def tool_costs(effects: Iterable[EffectView | Entry]) -> dict[int, ToolCost]:
    """By the ``seq`` of each model call that was offered tools."""
    found: dict[int, ToolCost] = {}
    known: dict[str, Mapping[str, ToolSpec]] = {}
    for effect in effects:
        around = scopes(effect.path)[-1:] or [""]
        if effect.kind == "prepare":
            known[around[0]] = _prepared(effect.result)
        elif effect.kind == "model" and isinstance(effect.request, dict):
            tools = _of_scope(known, effect.path)
            named = effect.request.get("tools")
            listed = named if isinstance(named, list) else []
            names = [name for name in listed if isinstance(name, str) and name in tools]
            if names:
                tokens = sum(definition_tokens([tools[name]]) for name in names)
                found[effect.seq] = ToolCost(len(names), len(tools), tokens)
    return found


def _of_scope(known: Mapping[str, Mapping[str, ToolSpec]], path: str) -> Mapping[str, ToolSpec]:
    """The tools of the agent that asked: of the nearest graph around that has looked them up."""
    around = [*reversed(scopes(path)), ""]
    return next((known[scope] for scope in around if scope in known), {})


def _prepared(prepared: Any) -> dict[str, ToolSpec]:
    """The tools by name. A damaged row may hold anything."""
    listed = prepared.get("tools") if isinstance(prepared, dict) else None
    specs = (_spec(one) for one in (listed if isinstance(listed, list) else ()))
    return {spec.name: spec for spec in specs if spec is not None}


def _spec(data: Any) -> ToolSpec | None:
    try:
        return ToolSpec.from_json(data)
    except TypeError:
        return None
