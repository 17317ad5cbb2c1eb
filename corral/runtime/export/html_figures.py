"""The figures at the top of a page: what a run took, and where its time went."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corral.runtime.critical_path import CriticalPath
from corral.runtime.export.html_text import duration, money
from corral.runtime.views import EffectView, RunView


@dataclass(frozen=True)
class Figure:
    """A number, what it is, and what is to be said of it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Share:
    """A part of the wall time: ``begin`` and ``width`` in percent of all of it."""

    kind: str
    name: str
    took: str
    begin: float
    width: float


def figures(run: RunView, effects: Sequence[EffectView], way: CriticalPath) -> list[Figure]:
    """What a run took."""
    calls = [effect for effect in effects if effect.kind == "tool"]
    agents = sum(effect.kind == "agent" for effect in effects)
    wrong = sum(is_error(effect) for effect in calls)
    usage = run.usage
    found = [
        Figure("Model calls", f"{run.steps:,}"),
        Figure("Tool calls", f"{len(calls):,}", f"{wrong:,} with an error" if wrong else ""),
    ]
    if agents:
        found.append(Figure("Sub-agents", f"{agents:,}"))
    tokens = f"{usage.input_tokens:,} in, {usage.output_tokens:,} out"
    tokens += f", {usage.cached_tokens:,} cached" if usage.cached_tokens else ""
    tokens += f", {usage.reasoning_tokens:,} reasoning" if usage.reasoning_tokens else ""
    found += [
        Figure("Tokens", f"{usage.input_tokens + usage.output_tokens:,}", tokens),
        Figure("Cost", money(usage.cost_usd)),
        Figure("Wall time", duration(way.wall_ms), _waited(way)),
        Figure("Critical path", duration(way.wall_ms - way.human_ms - way.unrecorded_ms), _on(way)),
    ]
    return found


def _waited(way: CriticalPath) -> str:
    return f"{duration(way.human_ms)} of it for an answer" if way.human_ms >= 1 else ""


def _on(way: CriticalPath) -> str:
    return f"{len(way.seqs):,} effects" if len(way.seqs) != 1 else "1 effect"


def shares(way: CriticalPath) -> list[Share]:
    """Where the wall time went, the parts that took any of it.

    A wait that took most of it is told but not drawn (``width`` 0): nothing else could be seen.
    """
    parts = [
        ("model", "model calls", way.model_ms),
        ("tool", "tool calls", way.tool_ms),
        ("approval", "waiting for an answer", way.human_ms),
        ("other", "other effects", way.other_ms),
        ("idle", "nothing recorded", way.unrecorded_ms),
    ]
    whole = sum(ms for _, _, ms in parts)
    drawn = {
        kind: ms for kind, _, ms in parts if kind in ("model", "tool", "other") or ms * 2 < whole
    }
    per_ms = 100 / (sum(drawn.values()) or 1.0)
    found: list[Share] = []
    begin = 0.0
    for kind, name, ms in parts:
        width = drawn.get(kind, 0.0) * per_ms
        if ms > 0:
            told = name if kind in drawn else f"{name} (not drawn)"
            found.append(Share(kind, told, duration(ms), round(begin, 3), round(width, 3)))
        begin += width
    return found


def is_error(effect: EffectView) -> bool:
    """Whether an effect failed, or gave an error that the model was told."""
    result = effect.result
    told = isinstance(result, dict) and result.get("is_error") is True
    return effect.status == "failed" or told
