"""What differs between two effects, and what came of one, as texts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from corral.cli.output import clean
from corral.cli.preview import call_text
from corral.runtime.comparison import Change, Pair
from corral.runtime.views import EffectView

if TYPE_CHECKING:
    from corral.jsontypes import Json

NAMES = ("model", "tool", "agent")
"""The aspects that are an effect's name."""


def told(effect: EffectView) -> str:
    """What came of an effect, as text."""
    match effect.result:
        case None:
            return ""
        case {"message": {"tool_calls": list(calls), **rest}} if calls:
            return "\n".join([str(rest.get("content") or ""), _calls(calls)]).strip()
        case {"text": str(text)} | {"error": str(text)}:
            return text
        case {"tools": list(found)}:
            return f"{len(found)} tools"
        case {"status": str(text)}:
            return text
    return json.dumps(effect.result, ensure_ascii=False)


def _calls(calls: Sequence[Any]) -> str:
    found = (call for call in calls if isinstance(call, dict))
    return "\n".join(
        f"→ {call_text(str(call.get('name')), _args(call), 100_000)}" for call in found
    )


def _args(call: dict[str, Any]) -> dict[str, Any]:
    args = call.get("args")
    return args if isinstance(args, dict) else {}


def texts(pair: Pair) -> Iterator[tuple[str, str, str]]:
    """What differs, as labelled texts. A name that differs stands over the pair already."""
    for change in pair.changes:
        if change.aspect not in NAMES:
            yield from _of_change(change)


def _of_change(change: Change) -> Iterator[tuple[str, str, str]]:
    """A change as texts with a label; one for each key that differs."""
    a, b = change.a, change.b
    if isinstance(a, dict) and isinstance(b, dict):
        for key in dict.fromkeys((*a, *b)):
            if a.get(key) != b.get(key):
                yield clean(f"{change.aspect}, {key}"), _text(a.get(key)), _text(b.get(key))
    elif change.aspect == "calls":
        yield "calls", _calls(_list(a)), _calls(_list(b))
    elif change.aspect == "prompt":
        yield "prompt", _messages(_list(a)), _messages(_list(b))
    else:
        yield clean(change.aspect), _text(a), _text(b)


def _list(value: Json) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _messages(messages: Sequence[Any]) -> str:
    blocks = []
    for message in messages:
        body = message.get("text") or message.get("answer") or ""
        calls = _calls(_list(message.get("calls")))
        blocks += [f"[{message.get('type')}]", _text(body), *([calls] if calls else [])]
    return "\n".join(blocks)


def _text(value: Json) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(one, str) for one in value):
        return "\n".join(map(str, value))
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)
