"""What requests and results of each kind of effect must hold, for the graph and for readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any, get_args

from corral.jsontypes import JsonObject
from corral.memory.store import Memory
from corral.runtime.effects import TOOLS, EffectKind
from corral.runtime.export.forms import Effect
from corral.tools.contract import ToolSpec

Fits = Callable[[Any], bool]
Shape = Mapping[str, Fits]
"""The keys that an object must have, and those that it may have with another value than null."""


def wrong_content(effect: Effect) -> str | None:
    """What of an effect is not as its kind needs it, in words; ``None`` when all is well."""
    wrong = _wrong(effect.request, _REQUESTS[effect.kind])
    if wrong:
        return f"the request of a {effect.kind} effect has no such {wrong}"
    if effect.status == "failed":
        wrong = _wrong(effect.result, _FAILURE)
    elif effect.status == "finished":
        is_choice = effect.kind == "retrieval" and effect.name == TOOLS
        wrong = _wrong(effect.result, _CHOICE if is_choice else _RESULTS[effect.kind])
    return f"the result of a {effect.kind} effect has no such {wrong}" if wrong else None


def _wrong(value: JsonObject | None, shape: Shape) -> str:
    return " and ".join(key for key, fits in shape.items() if not fits((value or {}).get(key)))


def _is(*kinds: type) -> Fits:
    return lambda value: type(value) in kinds


def _all(fits: Fits) -> Fits:
    return lambda value: isinstance(value, list) and all(map(fits, value))


def _or_none(fits: Fits) -> Fits:
    return lambda value: value is None or fits(value)


def _object(shape: Shape) -> Fits:
    return lambda value: isinstance(value, dict) and not _wrong(value, shape)


def _made(make: Callable[[JsonObject], Any], shape: Shape) -> Fits:
    """Whether a record can be made of the object: it has its keys and no others."""

    def fits(value: Any) -> bool:
        try:
            return isinstance(value, dict) and make(value) is not None and not _wrong(value, shape)
        except TypeError:
            return False

    return fits


_TEXT, _COUNT, _OBJECT = _is(str), _is(int), _is(dict)
_MAYBE_TEXT = _is(str, NoneType)
_TEXTS = _all(_TEXT)

_CALL = _object({"name": _TEXT, "args": _OBJECT, "id": _MAYBE_TEXT})
_MESSAGE = _object(
    {
        "type": _TEXT,
        "content": lambda value: isinstance(value, str) or _all(_is(str, dict))(value),
        "name": _MAYBE_TEXT,
        "tool_calls": _or_none(_all(_CALL)),
        "invalid_tool_calls": _or_none(_all(_OBJECT)),
        "tool_call_id": _MAYBE_TEXT,
        "status": _MAYBE_TEXT,
    }
)
_TOOL = _made(
    ToolSpec.from_json,
    {
        "server": _TEXT,
        "tool": _TEXT,
        "description": _TEXT,
        "input_schema": _OBJECT,
        "output_schema": _is(dict, NoneType),
        **dict.fromkeys(
            ("read_only", "destructive", "idempotent", "open_world", "trusted"), _is(bool, NoneType)
        ),
    },
)
_IMAGE = _object({"mime_type": _TEXT, "base64": _TEXT})
_FACT = _made(Memory.from_json, dict.fromkeys(("id", "text", "agent", "thread", "run"), _TEXT))

_REQUESTS: Mapping[str, Shape] = {
    "prepare": {},
    "model": {
        "model": _TEXT,
        "purpose": _MAYBE_TEXT,
        "tools": _or_none(_TEXTS),
        "after": _is(int, NoneType),
        "messages": _all(_MESSAGE),
        "sampling": _is(dict, NoneType),
    },
    "tool": {"tool": _TEXT, "args": _OBJECT},
    "agent": {"agent": _TEXT, "args": _OBJECT},
    "retrieval": {"query": _TEXT},
    "approval": {"tool": _TEXT, "args": _OBJECT, "kind": _TEXT},
    "value": {},
    "connection": {
        "host": _TEXT,
        "port": _COUNT,
        "method": _TEXT,
        "path": _TEXT,
        "addresses": _TEXTS,
        "allowed": _is(bool),
        "refused": _MAYBE_TEXT,
    },
}
_RESULTS: Mapping[str, Shape] = {
    "prepare": {
        "tools": _all(_TOOL),
        "problems": _or_none(_TEXTS),
        "context_window": _COUNT,
        "images": _is(bool, NoneType),
        "preview": _is(int, NoneType),
    },
    "model": {"id": _TEXT, "text": _TEXT, "message": _MESSAGE, "stop_reason": _MAYBE_TEXT},
    "tool": {
        "text": _TEXT,
        "is_error": _is(bool),
        "dropped": _is(int, NoneType),
        "images": _or_none(_all(_IMAGE)),
    },
    "agent": {"text": _TEXT, "is_error": _is(bool)},
    "retrieval": {"facts": _all(_FACT)},
    "approval": {
        "status": _TEXT,
        "args": _is(dict, NoneType),
        "reason": _MAYBE_TEXT,
        "result": _MAYBE_TEXT,
    },
    "value": {},
    "connection": {
        "sent": _COUNT,
        "received": _COUNT,
        "status": _is(int, NoneType),
        "address": _MAYBE_TEXT,
        "error": _MAYBE_TEXT,
        "open": _is(bool, NoneType),
    },
}
_CHOICE: Shape = {"tools": _TEXTS}
_FAILURE: Shape = {"type": _TEXT, "error": _TEXT, "hint": _TEXT}
assert _REQUESTS.keys() == _RESULTS.keys() == set(get_args(EffectKind))
