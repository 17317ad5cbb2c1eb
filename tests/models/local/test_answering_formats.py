"""Calls in the formats of common model families: found, constrained, streamed and read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from langchain_core.messages import HumanMessage

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import (
    Chunk,
    JsonOutput,
    ModelRequest,
    NamedTool,
    ReasoningChunk,
    TextChunk,
    ToolCallChunk,
)
from corral.runtime.models.local.answering.answering import AnsweringOptions
from corral.runtime.models.local.native.weights import Weights
from tests.models.conftest import tool
from tests.models.local.scripted_scores import spoken, weights

__all__ = ["weights"]  # the fixture

Call = tuple[str, JsonObject]
TEMPLATES = Path(__file__).parent / "templates"
NOTE = tool(
    {
        "type": "object",
        "properties": {
            "text": {"type": "string"},
            "count": {"type": "integer"},
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
        },
        "required": ["text"],
    },
    "note",
)
STOP = tool({"type": "object", "properties": {}}, "stop")
ASKED = ModelRequest([HumanMessage("Note it.")], [NOTE, STOP])
HERMES = (
    '<tool_call>\n{"name": "test__note", "arguments": {"text": "x"}}\n</tool_call>'
    '\n<tool_call>\n{"name": "test__stop", "arguments": {}}\n</tool_call>'
)
X: Call = ("test__note", {"text": "x"})
S: Call = ("test__stop", {})
LONG: JsonObject = {"text": 'one "two"\nthree <b>', "count": 3, "tags": ["b"]}

WRITTEN = {
    "qwen-2.5": (HERMES, [X, S]),
    "qwen-3": (HERMES, [X, S]),
    "hermes-3": (HERMES, [X, S]),
    "granite-4": (HERMES, [X, S]),
    "llama-3.1": ('{"name": "test__note", "parameters": {"text": "x"}}', [X]),
    "mistral-nemo": (
        (
            '[TOOL_CALLS][{"name": "test__note", "arguments": {"text": "x"}, "id": "abcDEF123"}, '
            '{"name": "test__stop", "arguments": {}, "id": "abcDEF124"}]'
        ),
        [X, S],
    ),
    "mistral-small-3.2": (
        (
            '[TOOL_CALLS]test__note[CALL_ID]abcDEF123[ARGS]{"text": "x"}'
            "[TOOL_CALLS]test__stop[CALL_ID]abcDEF124[ARGS]{}"
        ),
        [X, S],
    ),
    "functionary-3.1": (
        '<function=test__note>{"text": "x"}</function><function=test__stop>{}</function><|eom_id|>',
        [X, S],
    ),
    "qwen-3-coder": (
        "<tool_call>\n<function=test__note>\n<parameter=text>\n" + LONG["text"] + "\n</parameter>\n"
        '<parameter=count>\n3\n</parameter>\n<parameter=tags>\n["b"]\n</parameter>\n</function>\n'
        "</tool_call>\n<tool_call>\n<function=test__stop>\n</function>\n</tool_call>",
        [("test__note", LONG), S],
    ),
    "glm-4.6": (
        (
            "<tool_call>test__note\n<arg_key>text</arg_key>\n<arg_value>x</arg_value>\n</tool_call>"
            "\n<tool_call>test__stop\n</tool_call>"
        ),
        [X, S],
    ),
    "gpt-oss": (
        '<|channel|>commentary to=functions.test__note <|constrain|>json<|message|>{"text": "x"}',
        [X],
    ),
    **dict.fromkeys(
        ("phi-3.5", "gemma-2", "smollm-3"),
        ('CALL test__note {"text": "x"}\nCALL test__stop {}', [X, S]),
    ),
    "deepseek-r1": ('</think>\n\nCALL test__note {"text": "x"}', [X]),
}


def options(family: str) -> AnsweringOptions:
    return AnsweringOptions(8192, chat_template=(TEMPLATES / f"{family}.jinja").read_text())


def streamed(chunks: list[Chunk]) -> list[tuple[str, object]]:
    """The calls as somebody sees them who reads the pieces."""
    names, texts = dict[int, str](), dict[int, str]()
    for chunk in chunks:
        if isinstance(chunk, ToolCallChunk):
            if chunk.name:
                names[chunk.index], texts[chunk.index] = chunk.name, ""
            texts[chunk.index] += chunk.args
    return [(names[at], json.loads(texts[at])) for at in names]


@pytest.mark.parametrize("family", WRITTEN)
def test_calls_in_a_familys_own_format(weights: Weights, family: str) -> None:
    wish, calls = WRITTEN[family]
    chunks, final, _ = spoken(weights, ASKED, wish, options=options(family))
    assert [(call["name"], call["args"]) for call in final.message.tool_calls] == calls
    assert streamed(chunks) == calls
    assert final.message.content == ""
    assert final.stop_reason == "tool_calls"
    assert len({call["id"] for call in final.message.tool_calls}) == len(calls)


@pytest.mark.slow
@pytest.mark.parametrize("family", WRITTEN)
def test_what_a_model_does_not_want_is_what_it_must_do(weights: Weights, family: str) -> None:
    must = replace(ASKED, tool_choice=NamedTool("test__note"))
    _, final, _ = spoken(weights, must, "No. I rather talk.", options=options(family))
    (call,) = final.message.tool_calls
    assert call["name"] == "test__note"
    assert isinstance(call["args"]["text"], str)
    assert final.message.content == ""


@pytest.mark.parametrize("family", WRITTEN)
def test_where_no_call_may_be_made_none_is(weights: Weights, family: str) -> None:
    none = replace(ASKED, tool_choice="none", reasoning="none")
    chunks, final, _ = spoken(weights, none, "Fine, thanks.", options=options(family))
    assert final.message.content == "Fine, thanks."
    assert not final.message.tool_calls
    assert not any(isinstance(chunk, ToolCallChunk) for chunk in chunks)


@pytest.mark.parametrize(
    ("family", "wish", "thought", "said"),
    [
        ("qwen-3", "<think>\nHm <b>.\n</think>\n\nDone.", "Hm <b>.", "Done."),
        ("qwen-3", "No thoughts.", "", "No thoughts."),
        ("deepseek-r1", "Hm.\n</think>\n\nDone.", "Hm.", "Done."),
        (
            "gpt-oss",
            (
                "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant"
                "<|channel|>final<|message|>Done."
            ),
            "Hm.",
            "Done.",
        ),
        ("gpt-oss", "<|channel|>final<|message|>Done.", "", "Done."),
        ("qwen-3", "<think>\nnever ends", "never ends", ""),
    ],
)
def test_thoughts_are_kept_apart(
    weights: Weights, family: str, wish: str, thought: str, said: str
) -> None:
    talk = replace(ASKED, tools=())
    chunks, final, _ = spoken(weights, talk, wish, options=options(family))
    assert final.message.content == said
    assert "".join(one.text for one in chunks if isinstance(one, TextChunk)) == said
    assert "".join(one.text for one in chunks if isinstance(one, ReasoningChunk)) == thought
    assert (final.usage.reasoning_tokens > 0) == bool(thought)


def test_a_constraint_begins_after_the_thoughts(weights: Weights) -> None:
    asked = replace(ASKED, tools=(), output=JsonOutput(NOTE.input_schema))
    wish = '<think>\nHm.\n</think>\n\n{"text": "x"}'
    chunks, final, _ = spoken(weights, asked, wish, options=options("qwen-3"))
    assert final.message.content == '{"text": "x"}'
    assert [one.text for one in chunks if isinstance(one, ReasoningChunk)]


def test_thoughts_can_be_switched_off(weights: Weights) -> None:
    quiet = replace(ASKED, tools=(), reasoning="none")
    _, final, context = spoken(weights, quiet, "Done.", options=options("qwen-3"))
    assert final.message.content == "Done."
    prompt = "".join(
        (weights.piece(t) or weights.token_text(t).encode()).decode() for t in context.prompts[0]
    )
    assert prompt.rstrip().endswith("</think>")
