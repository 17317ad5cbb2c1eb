"""What was said, as attributes of spans. Only for who asks for it: it may be anything.

The forms are those of gen-ai-input-messages.json and gen-ai-output-messages.json of the semantic
conventions. What is long is cut: a backend that refuses a span for its size helps nobody.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from corral.runtime.views import EffectView

MAX_TEXT = 8_000
"""Characters kept of one text."""

MAX_MESSAGES = 48_000
"""Characters of the messages of one span; the oldest are left out."""

_ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}

_REASONS = {"tool_calls": "tool_call", "refusal": "content_filter"}

Part = dict[str, Any]


class Contents:
    """The messages of one run. A model call's prompt is found through those before it."""

    def __init__(self) -> None:
        self._requests: dict[int, Mapping[str, Any]] = {}

    def add(self, effect: EffectView) -> None:
        """Take up a model call: later ones may have gone on from its prompt."""
        self._requests[effect.seq] = _object(effect.request)

    def of_model(self, effect: EffectView) -> dict[str, Any]:
        """What a model was asked and what it answered."""
        result = _object(effect.result)
        answer = _object(result.get("message"))
        attributes: dict[str, Any] = {"gen_ai.input.messages": self._prompt(effect.seq)}
        if answer:
            reason = str(result.get("stop_reason") or "stop")
            said = {**_message(answer), "finish_reason": _REASONS.get(reason, reason)}
            attributes["gen_ai.output.messages"] = [said]
        return attributes

    def _prompt(self, seq: int) -> list[dict[str, Any]]:
        """The newest messages of a prompt that fit, oldest first."""
        found: list[dict[str, Any]] = []
        room = MAX_MESSAGES
        at: Any = seq
        seen = set()
        while isinstance(at, int) and at not in seen and room > 0:
            seen.add(at)
            request = self._requests.get(at, {})
            for stored in reversed(_objects(request.get("messages"))):
                message = _message(stored)
                room -= len(json.dumps(message, ensure_ascii=False))
                if room < 0 and found:
                    break
                found.append(message)
            at = request.get("after")
        return found[::-1]

    def of_tool(self, effect: EffectView) -> dict[str, Any]:
        """What a tool was called with and what it gave."""
        result = _object(effect.result)
        attributes: dict[str, Any] = {
            "gen_ai.tool.call.arguments": _bounded(_object(effect.request).get("args"))
        }
        if result and not result.get("is_error"):
            given = result.get("structured")
            attributes["gen_ai.tool.call.result"] = _bounded(
                result.get("text") if given is None else given
            )
        return attributes

    def of_agent(self, effect: EffectView) -> dict[str, Any]:
        """The task that a sub-agent was given and what it answered."""
        args = _object(_object(effect.request).get("args"))
        return self.exchange(str(args.get("task", "")), str(_object(effect.result).get("text", "")))

    def exchange(self, asked: str, answered: str) -> dict[str, Any]:
        """One message and its answer."""
        said = {"role": "assistant", "parts": [_text(answered)], "finish_reason": "stop"}
        return {
            "gen_ai.input.messages": [{"role": "user", "parts": [_text(asked)]}],
            "gen_ai.output.messages": [said] if answered else None,
        }


def _message(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A message as the journal holds it, in the form of the conventions."""
    kind = str(stored.get("type"))
    if kind == "tool":
        answer: Part = {"type": "tool_call_response", "id": stored.get("tool_call_id")}
        answer["response"] = _bounded(stored.get("content"))
        return {"role": "tool", "parts": [answer]}
    parts = _parts(stored.get("content"))
    for call in _objects(stored.get("tool_calls")):
        made: Part = {"type": "tool_call", "id": call.get("id"), "name": str(call.get("name"))}
        parts.append({**made, "arguments": _bounded(call.get("args"))})
    return {"role": _ROLES.get(kind, kind), "parts": parts}


def _parts(content: Any) -> list[Part]:
    if isinstance(content, str):
        return [_text(content)] if content else []
    parts: list[Part] = []
    for block in _objects(content):
        kind = str(block.get("type"))
        if kind == "text":
            parts.append(_text(str(block.get("text", ""))))
        elif kind in ("thinking", "reasoning"):
            said = block.get("thinking") or block.get("reasoning") or block.get("text") or ""
            parts.append({"type": "reasoning", "content": cut(str(said))})
        elif kind not in ("tool_use", "tool_call", "function_call"):  # those are calls already
            parts.append({"type": kind})
    return parts


def _text(text: str) -> Part:
    return {"type": "text", "content": cut(text)}


def cut(text: str) -> str:
    """The beginning of a text, with what was left out told."""
    if len(text) <= MAX_TEXT:
        return text
    return f"{text[:MAX_TEXT]}… ({len(text) - MAX_TEXT:,} more characters)"


def _bounded(value: Any) -> Any:
    """A JSON value as it is, or the beginning of its text when it is long."""
    if isinstance(value, str):
        return cut(value)
    text = json.dumps(value, ensure_ascii=False)
    return value if len(text) <= MAX_TEXT else cut(text)


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> Sequence[Mapping[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
