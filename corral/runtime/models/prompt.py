"""Turns messages and tools into the text that one model was trained to read.

The model file brings a Jinja chat template. It is data from outside: it runs in Jinja's sandbox.
A template that takes ``tools`` gets them, and its own way of writing a call is found by letting it
write one; otherwise tools, calls and results are put into plain messages.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from jinja2 import Template, TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage

from corral.errors import ModelError
from corral.jsontypes import JsonObject
from corral.runtime.models.contract import ModelRequest
from corral.runtime.models.grammar import CallSyntax
from corral.runtime.models.prompt_tools import PLAIN_SYNTAX, describe_tools, tool_result
from corral.tools.contract import ToolSpec

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""For files without a template of their own: the format that most small models know."""

_PROBE_NAME = "probe__tool"
_PROBE_ARGS: JsonObject = {"probe_key": "probe value"}
_PROBE_ID = "call00000"
_MAX_TEMPLATE = 100_000


class _RaisedError(TemplateError):
    """The template itself refused these messages."""


@dataclass(frozen=True)
class TemplateParts:
    """What a template comes with: the model's name, its markers and its reserved words."""

    model: str
    source: str | None
    bos: str
    eos: str
    control: re.Pattern[str] | None


class ChatPrompt:
    """Renders requests for one model. Raises ``ModelError`` for a template that does not work."""

    def __init__(self, parts: TemplateParts) -> None:
        self._parts = parts
        self._template = _compile(parts)
        self._native = self._probe()

    @property
    def syntax(self) -> CallSyntax:
        """How this model writes a call."""
        return self._native or PLAIN_SYNTAX

    @property
    def native_tools(self) -> bool:
        """Whether the template shows tools and calls in its own way."""
        return self._native is not None

    def render(self, request: ModelRequest) -> str:
        """The prompt, up to where the answer begins."""
        tools = request.tools if request.tool_choice != "none" or self._native else ()
        clean = self._clean
        messages = (
            [_native_message(message, clean) for message in request.messages]
            if self._native
            else _plain_messages(request, clean)
        )
        return self._render(messages, tools if self._native else ())

    def _render(self, messages: list[JsonObject], tools: Sequence[ToolSpec]) -> str:
        error: Exception | None = None
        for variant in (messages, _without_system(messages), _alternating(messages)):
            try:
                return self._run(variant, [_function(tool) for tool in tools])
            except _RaisedError as refused:
                error = error or refused
            except (TemplateError, TypeError, ValueError, KeyError, AttributeError) as broken:
                error = broken
                break
        raise ModelError(
            f"The chat template of {self._parts.model} cannot render this conversation: {error}.",
            hint="Use another GGUF of this model, or pass a template of your own.",
        )

    def _run(self, messages: list[JsonObject], tools: list[JsonObject]) -> str:
        return self._template.render(
            messages=messages,
            tools=tools or None,
            add_generation_prompt=True,
            bos_token=self._parts.bos,
            eos_token=self._parts.eos,
        )

    def _clean(self, text: str) -> str:
        """The text with the model's control tokens broken up: content must not end a message."""
        if self._parts.control is None:
            return text
        return self._parts.control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)

    def _probe(self) -> CallSyntax | None:
        """Let the template write a call, and see what it puts around name and arguments."""
        if "tools" not in (self._parts.source or ""):
            return None
        user = {"role": "user", "content": "probe question"}
        function = {"name": _PROBE_NAME, "arguments": _PROBE_ARGS}
        call = {"type": "function", "id": _PROBE_ID, "function": function, **function}
        answer = {"role": "assistant", "content": "", "tool_calls": [call]}
        tool = {
            "name": _PROBE_NAME,
            "description": "",
            "parameters": {"type": "object", "properties": {"probe_key": {"type": "string"}}},
        }
        tools: list[JsonObject] = [{"type": "function", "function": tool}]
        try:
            before = self._run([user], tools)
            after = self._run([user, answer, {"role": "user", "content": "next question"}], tools)
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError):
            return None
        return _syntax(before, after, self._parts.eos)


def _compile(parts: TemplateParts) -> Template:
    source = parts.source or CHATML
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals.update(raise_exception=_raise, strftime_now=_today)
    if len(source) > _MAX_TEMPLATE:
        raise ModelError(
            f"The chat template of {parts.model} has {len(source):,} characters; "
            f"{_MAX_TEMPLATE:,} are read.",
            hint="Use another GGUF of this model, or pass a template of your own.",
        )
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise ModelError(
            f"The chat template of {parts.model} is broken: {error}.",
            hint="Use another GGUF of this model, or pass a template of your own.",
        ) from None


class _Generation(Extension):
    """Accepts ``{% generation %}``, which training code uses to mark answers, and ignores it."""

    tags = {"generation"}  # noqa: RUF012  # jinja2 declares it as a plain set

    def parse(self, parser: Any) -> Any:
        """Keep the body of the block as it is."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(value: Any, indent: int | None = None, **_: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> None:
    raise _RaisedError(message)


def _today(form: str) -> str:
    return datetime.now().strftime(form)


def _function(tool: ToolSpec) -> JsonObject:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.input_schema,
    }
    return {"type": "function", "function": function}


def _native_message(message: BaseMessage, clean: Callable[[str], str]) -> JsonObject:
    text = clean(str(message.text))
    if isinstance(message, SystemMessage):
        return {"role": "system", "content": text}
    if isinstance(message, ToolMessage):
        return {
            "role": "tool",
            "content": text,
            "name": message.name or "",
            "tool_call_id": message.tool_call_id,
        }
    if not isinstance(message, AIMessage):
        return {"role": "user", "content": text}
    calls = []
    for number, call in enumerate(message.tool_calls):
        function = {"name": call["name"], "arguments": _clean_json(call["args"], clean)}
        # Mistral's templates insist on ids of nine letters and digits.
        calls.append({"type": "function", "id": f"call{number:05}", "function": function})
    rendered: JsonObject = {"role": "assistant", "content": text}
    return {**rendered, "tool_calls": calls} if calls else rendered


def _clean_json(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_clean_json(item, clean) for item in value]
    if isinstance(value, dict):
        return {clean(key): _clean_json(item, clean) for key, item in value.items()}
    return value


def _plain_messages(request: ModelRequest, clean: Callable[[str], str]) -> list[JsonObject]:
    """Roles that every template knows; calls and results are written into the content."""
    messages: list[JsonObject] = []
    for message in request.messages:
        text = clean(str(message.text))
        role, content = "user", text
        if isinstance(message, SystemMessage):
            role = "system"
        elif isinstance(message, ToolMessage):
            content = tool_result(message, text)
        elif isinstance(message, AIMessage):
            role = "assistant"
            calls = [PLAIN_SYNTAX.render(c["name"], c["args"]) for c in message.tool_calls]
            content = "\n".join(filter(None, [text, *map(clean, calls)]))
        messages.append({"role": role, "content": content})
    if request.tools and request.tool_choice != "none":
        system = messages.pop(0)["content"] if _has_system(messages) else ""
        content = "\n\n".join(filter(None, [system, clean(describe_tools(request.tools))]))
        messages.insert(0, {"role": "system", "content": content})
    return messages


def _has_system(messages: Sequence[JsonObject]) -> bool:
    return bool(messages) and messages[0]["role"] == "system"


def _without_system(messages: list[JsonObject]) -> list[JsonObject]:
    """The system message as the beginning of the first user message."""
    if not _has_system(messages):
        return messages
    system, *rest = messages
    if rest and rest[0]["role"] == "user":
        first = {**rest[0], "content": f"{system['content']}\n\n{rest[0]['content']}"}
        return [first, *rest[1:]]
    return [{"role": "user", "content": system["content"]}, *rest]


def _alternating(messages: list[JsonObject]) -> list[JsonObject]:
    """Neighbours of one role as one message, for templates that insist on taking turns."""
    merged: list[JsonObject] = []
    for message in _without_system(messages):
        if merged and merged[-1]["role"] == message["role"] and "tool_calls" not in message:
            content = f"{merged[-1]['content']}\n\n{message['content']}"
            merged[-1] = {**merged[-1], "content": content}
        else:
            merged.append(message)
    return merged


def _syntax(before: str, after: str, eos: str) -> CallSyntax | None:
    """What stands around the probe's name and arguments, or ``None`` if that is not JSON."""
    if not after.startswith(before):
        before = before[: _common(before, after)]
    body = after[len(before) :]
    arguments = next((text for text in _json_texts() if text in body), None)
    at = body.find(_PROBE_NAME)
    if arguments is None or at < 0 or body.index(arguments) < at:
        return None
    prefix = body[:at]
    start = body.index(arguments)
    middle = body[at + len(_PROBE_NAME) : start]
    suffix = body[start + len(arguments) :].split("next question", 1)[0]
    suffix = suffix.split(eos, 1)[0] if eos and eos in suffix else suffix
    if not prefix.strip() or len(prefix) + len(middle) > 200:
        return None
    prefix = prefix.lstrip()
    return CallSyntax(
        prefix=prefix, middle=middle, suffix=suffix.rstrip(), trigger=_trigger(prefix)
    )


def _json_texts() -> list[str]:
    return [json.dumps(_PROBE_ARGS), json.dumps(_PROBE_ARGS, separators=(",", ":"))]


def _common(first: str, second: str) -> int:
    pairs = zip(first, second, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


def _trigger(prefix: str) -> str:
    """The marker that begins a call: ``<tool_call>``, ``[TOOL_CALLS]``, or all up to the name."""
    marker = re.match(r"<[^<>\s]+>|\[[A-Z_]+\]", prefix)
    return marker[0] if marker else prefix.rstrip()
