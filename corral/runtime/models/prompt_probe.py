"""Finds out how a chat template writes a tool call, by letting it write one.

Every model family has its own way: ``<tool_call>{"name": …}</tool_call>``, ``[TOOL_CALLS]…``, bare
JSON. The template knows. It renders the same conversation with a plain answer and with a call;
what differs is the call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from jinja2 import TemplateError

from corral.jsontypes import JsonObject
from corral.runtime.models.grammar import CallSyntax

Render = Callable[[list[JsonObject], list[JsonObject]], str]

TEMPLATE_FAILURES = (
    TemplateError,
    TypeError,
    ValueError,
    LookupError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)
"""What rendering somebody's template may raise."""

_NAME = "probe__tool"
_ARGS: JsonObject = {"probe_key": "probe value"}
_TEXT = "\N{SNOWMAN} probe \N{COMET}"
_TOOL: JsonObject = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "",
        "parameters": {"type": "object", "properties": {"probe_key": {"type": "string"}}},
    },
}
_MAX_MARKUP = 300
_MARKER = re.compile(r"<[^<>\s]+>|\[[A-Z_]+\]")


@dataclass(frozen=True)
class NativeCalls:
    """How a template takes calls. ``text_arguments``: as JSON text, not as an object."""

    syntax: CallSyntax
    text_arguments: bool


def call_message(number: int, name: str, args: JsonObject, *, text: bool) -> JsonObject:
    """A call as chat templates expect it in an assistant message's ``tool_calls``."""
    function = {
        "name": name,
        "arguments": json.dumps(args, ensure_ascii=False) if text else args,
    }
    # Mistral's templates insist on ids of nine letters and digits.
    return {"type": "function", "id": f"call{number:05}", "function": function, **function}


def probe(render: Render, ends: Sequence[str]) -> NativeCalls | None:
    """How this template writes a call, or ``None`` when it does not, or not with JSON arguments.

    ``ends`` are the texts of the tokens that end an answer.
    """
    user: JsonObject = {"role": "user", "content": "probe question"}
    try:
        plain = render([user, {"role": "assistant", "content": _TEXT}], [_TOOL])
    except TEMPLATE_FAILURES:
        return None
    for text in (False, True):
        calls = [call_message(0, _NAME, _ARGS, text=text)]
        answer: JsonObject = {"role": "assistant", "content": "", "tool_calls": calls}
        try:
            called = render([user, answer], [_TOOL])
        except TEMPLATE_FAILURES:
            continue
        syntax = _syntax(*_difference(plain, called), ends)
        if syntax is not None:
            return NativeCalls(syntax, text)
    return None


def _difference(plain: str, called: str) -> tuple[str, str]:
    """The call with what follows it, and what follows in the same way after plain text."""
    start = _common(plain, called)
    after = _common(plain[start:][::-1], called[start:][::-1])
    return called[start:], called[len(called) - after :]


def _syntax(body: str, tail: str, ends: Sequence[str]) -> CallSyntax | None:
    at = body.find(_NAME)
    written = [json.dumps(_ARGS), json.dumps(_ARGS, separators=(",", ":"))]
    arguments = next((form for form in written if form in body[max(at, 0) :]), None)
    if at < 0 or arguments is None:
        return None
    start = body.index(arguments, at)
    prefix, middle = body[:at].lstrip(), body[at + len(_NAME) : start]
    suffix = body[start + len(arguments) :].removesuffix(tail)
    for end in filter(None, ends):
        suffix = suffix.split(end, 1)[0]
    if not prefix.strip() or len(prefix) + len(middle) + len(suffix) > _MAX_MARKUP:
        return None
    marker = _MARKER.match(prefix)
    return CallSyntax(prefix, middle, suffix.rstrip(), trigger=marker[0] if marker else "")


def _common(first: str, second: str) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))
