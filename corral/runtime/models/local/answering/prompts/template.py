"""Turns messages and tools into the text that one model was trained to read.

The model file brings a Jinja chat template. It is data from outside: it runs in Jinja's sandbox.
A template that takes ``tools`` gets them, and its own way of writing a call is found by letting it
write one; otherwise tools, calls and results are put into plain messages.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from langchain_core.messages import AIMessage, BaseMessage, SystemMessage, ToolMessage

from corral.errors import ModelError
from corral.jsontypes import JsonObject
from corral.runtime.models.contract import ModelRequest
from corral.runtime.models.local.answering.prompts.examples import examples
from corral.runtime.models.local.answering.prompts.plain import PLAIN_SYNTAX, plain_messages
from corral.runtime.models.local.answering.prompts.probe import (
    TEMPLATE_FAILURES,
    call_message,
    probe,
)
from corral.runtime.models.local.answering.prompts.sandbox import (
    BoundedTemplate,
    RunawayTemplateError,
)
from corral.runtime.models.local.answering.prompts.thoughts import Thoughts, thoughts
from corral.runtime.models.local.constraints.syntax import CallSyntax
from corral.tools.contract import ToolSpec

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""For files without a template of their own: the format that most small models know."""

_MAX_TEMPLATE = 100_000


@dataclass(frozen=True)
class TemplateParts:
    """What a template comes with: the model's name, its markers and its reserved words."""

    model: str
    source: str | None
    bos: str
    ends: tuple[str, ...]
    control: re.Pattern[str] | None


@dataclass(frozen=True)
class Style:
    """How a prompt is put. ``examples``: a model whose template knows no tools is shown calls.

    ``reasoning`` is as in ``ModelRequest``.
    """

    examples: bool = False
    reasoning: str | None = None


class ChatPrompt:
    """Renders requests for one model. Raises ``ModelError`` for a template that does not work."""

    def __init__(self, parts: TemplateParts) -> None:
        self._parts = parts
        self._template = _compile(parts)
        takes_tools = "tools" in (parts.source or "")
        self._native = probe(self._run, parts.ends) if takes_tools else None

    @property
    def syntax(self) -> CallSyntax:
        """How this model writes a call."""
        return self._native.syntax if self._native else PLAIN_SYNTAX

    @property
    def native_tools(self) -> bool:
        """Whether the template shows tools and calls in its own way."""
        return self._native is not None

    def thoughts(self, prompt: str) -> Thoughts | None:
        """How this model thinks after a prompt, if it does."""
        return thoughts(self._parts.source or "", prompt)

    def render(self, request: ModelRequest, style: Style = Style()) -> str:
        """The prompt, up to where the answer begins."""
        more = _reasoning(style.reasoning)
        if self._native is None:
            choice = request.tool_choice
            shown = examples(request.tools, choice, PLAIN_SYNTAX) if style.examples else ()
            return self._render(plain_messages(request, self._clean, shown=shown), (), more)
        text = self._native.text_arguments
        messages = [_native_message(m, self._clean, text=text) for m in request.messages]
        return self._render(messages, request.tools, more)

    def _render(
        self, messages: list[JsonObject], tools: Sequence[ToolSpec], more: JsonObject
    ) -> str:
        error: Exception | None = None
        functions = [_function(tool) for tool in tools]
        for variant in (messages, _without_system(messages), _alternating(messages)):
            try:
                return self._run(variant, functions, add_generation_prompt=True, **more)
            except TEMPLATE_FAILURES as refused:
                error = error or refused
                if isinstance(refused, RunawayTemplateError):
                    break  # the others would take as long
        raise ModelError(
            f"The chat template of {self._parts.model} cannot render this conversation: {error}.",
            hint="Use another GGUF of this model, or pass a template of your own.",
        )

    def _run(self, messages: list[JsonObject], tools: list[JsonObject], **more: Any) -> str:
        return self._template.render(
            **{"add_generation_prompt": False, **more},
            messages=messages,
            tools=tools or None,
            bos_token=self._parts.bos,
            eos_token=self._parts.ends[0] if self._parts.ends else "",
        )

    def _clean(self, text: str) -> str:
        """The text with the model's control tokens broken up: content must not end a message."""
        if self._parts.control is None:
            return text
        return self._parts.control.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)


def _compile(parts: TemplateParts) -> BoundedTemplate:
    source = parts.source or CHATML
    if len(source) > _MAX_TEMPLATE:
        raise ModelError(
            f"The chat template of {parts.model} has {len(source):,} characters; "
            f"{_MAX_TEMPLATE:,} are read.",
            hint="Use another GGUF of this model, or pass a template of your own.",
        )
    try:
        return BoundedTemplate(source)
    except TemplateError as error:
        raise ModelError(
            f"The chat template of {parts.model} is broken: {error}.",
            hint="Use another GGUF of this model, or pass a template of your own.",
        ) from None


def _reasoning(effort: str | None) -> JsonObject:
    """What the templates of reasoning models ask for, each by a name of its own."""
    if effort is None:
        return {"enable_thinking": True}
    thinks = effort != "none"
    return {
        "enable_thinking": thinks,
        "thinking": thinks,
        "reasoning_effort": effort if thinks else "low",
    }


def _function(tool: ToolSpec) -> JsonObject:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.input_schema,
    }
    return {"type": "function", "function": function}


def _native_message(message: BaseMessage, clean: Callable[[str], str], *, text: bool) -> JsonObject:
    content = clean(str(message.text))
    if isinstance(message, SystemMessage):
        return {"role": "system", "content": content}
    if isinstance(message, ToolMessage):
        return {
            "role": "tool",
            "content": content,
            "name": message.name or "",
            "tool_call_id": message.tool_call_id,
        }
    if not isinstance(message, AIMessage):
        return {"role": "user", "content": content}
    calls = [
        call_message(number, call["name"], _clean_json(call["args"], clean), text=text)
        for number, call in enumerate(message.tool_calls)
    ]
    rendered: JsonObject = {"role": "assistant", "content": content}
    return {**rendered, "tool_calls": calls} if calls else rendered


def _clean_json(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [_clean_json(item, clean) for item in value]
    if isinstance(value, dict):
        return {clean(key): _clean_json(item, clean) for key, item in value.items()}
    return value


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
