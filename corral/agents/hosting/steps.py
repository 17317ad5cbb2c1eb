"""What a run has done, in words for who waits for it. Untrusted text in it is cleaned and cut."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from corral.jsontypes import JsonObject
from corral.runtime.call_words import call_in_words
from corral.runtime.views import EffectView
from corral.tools.text import one_line

LATEST = 12
"""How many of a run's latest steps are told."""

_LONGEST = 200
_KINDS = ("model", "tool", "agent", "approval")


def in_words(effects: Iterable[EffectView]) -> tuple[str, ...]:
    """The latest steps of a run, oldest first; ``effects`` are entries of its journal, by place."""
    told = [line for effect in effects if effect.kind in _KINDS for line in _told(effect)]
    return tuple(told[-LATEST:])


def _told(effect: EffectView) -> Iterator[str]:
    match effect.kind:
        case "tool":
            yield f"called {_call(effect)}{_came_of(effect)}"
        case "agent":
            yield f"gave {_task(effect)}{_came_of(effect)}"
        case "approval":
            yield f"asked a human about {one_line(effect.name, 80)}{_answered(effect)}"
        case _:
            yield from _said(effect)


def _call(effect: EffectView) -> str:
    args = _object(effect.request).get("args")
    return one_line(call_in_words(effect.name, args if isinstance(args, dict) else {}), _LONGEST)


def _task(effect: EffectView) -> str:
    task = str(_object(_object(effect.request).get("args")).get("task", ""))
    return one_line(f"{effect.name} a task: {task}", _LONGEST)


def _came_of(effect: EffectView) -> str:
    """How it ended, with the beginning of what it gave."""
    result = _object(effect.result)
    match effect.status:
        case "started" | "waiting":
            return "; no end of it is known yet" if effect.status == "started" else "; it waits"
        case "cancelled":
            return "; it was cancelled"
        case "failed":
            return f"; it failed: {one_line(str(result.get('error', '')), _LONGEST)}"
    text = one_line(str(result.get("text", "")), _LONGEST) or "nothing"
    return f"; it failed: {text}" if result.get("is_error") else f"; it gave: {text}"


def _answered(effect: EffectView) -> str:
    if effect.status != "finished":
        return "; it waits for the answer"
    result = _object(effect.result)
    by = f" by {one_line(str(result['by']), 80)}" if result.get("by") else ""
    return f"; {one_line(str(result.get('status', 'answered')), 40)}{by}"


def _said(effect: EffectView) -> Iterator[str]:
    """What a model said while it called tools: the answer itself is told elsewhere."""
    if effect.status == "failed":
        error = one_line(str(_object(effect.result).get("error", "")), _LONGEST)
        yield f"asked the model; it failed: {error}"
        return
    message = _object(_object(effect.result).get("message"))
    content = message.get("content")
    if message.get("tool_calls") and isinstance(content, str) and content.strip():
        yield f"said: {one_line(content, _LONGEST)}"


def _object(value: Any) -> JsonObject:
    return value if isinstance(value, dict) else {}
