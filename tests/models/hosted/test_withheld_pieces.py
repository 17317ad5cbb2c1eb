"""Personal data in an answer that comes in pieces: values for people, stand-ins for the model."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from corral.policies.detectors.personal import Personal
from corral.runtime.models.contract import (
    ChoiceOutput,
    Chunk,
    FinalChunk,
    JsonOutput,
    ModelRequest,
    ReasoningChunk,
    TextChunk,
    ToolCallChunk,
    Usage,
)
from corral.runtime.models.withholding import StandIns, Withholding, _Pieces
from tests.models.wire.hosted import RUN_CODE, serving
from tests.models.wire.shapes import call_delta, completion, message, text_block

MAIL = "ann.smith@example.org"
STAND_IN = "[withheld:email#1]"
EMAILS = Personal(frozenset({"email"}))
ASKED = ModelRequest([HumanMessage(f"Write to {MAIL}")], tools=(RUN_CODE,))


def joined(chunks: list[Chunk]) -> tuple[str, str, str]:
    """The text, the thoughts and the arguments."""
    text = "".join(chunk.text for chunk in chunks if isinstance(chunk, TextChunk))
    thoughts = "".join(chunk.text for chunk in chunks if isinstance(chunk, ReasoningChunk))
    args = "".join(chunk.args for chunk in chunks if isinstance(chunk, ToolCallChunk))
    return text, thoughts, args


async def test_thoughts_and_arguments_show_values_too() -> None:
    reply = completion(
        {"reasoning_content": "To [with"},
        {"reasoning_content": "held:email#1]"},
        {"content": "Mail [withheld:em"},
        {"content": "ail#1]."},
        call_delta(0, id="a", name=RUN_CODE.name, args='{"code": "[withheld'),
        call_delta(0, args=':email#1]"}'),
        finish="tool_calls",
    )
    async with serving("openai", reply, official=False) as (model, server):
        withheld = Withholding(model, EMAILS)
        chunks = [chunk async for chunk in withheld.stream(ASKED)]
        last = chunks[-1]
        assert isinstance(last, FinalChunk)
        _ = [c async for c in withheld.stream(ModelRequest([*ASKED.messages, last.message]))]
    assert joined(chunks) == (f"Mail {MAIL}.", f"To {MAIL}", f'{{"code": "{MAIL}"}}')
    assert last.message.additional_kwargs["reasoning_content"] == f"To {MAIL}"
    assert last.message.tool_calls[0]["args"] == {"code": MAIL}
    assert MAIL not in json.dumps(server.bodies)


async def test_signatures_are_not_looked_into() -> None:
    signature = "a@b.example.org"
    thinking = [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": f"To {STAND_IN}"},
        {"type": "signature_delta", "signature": signature},
    ]
    async with serving("anthropic", message(thinking, text_block("Done."))) as (model, server):
        withheld = Withholding(model, EMAILS)
        chunks = [chunk async for chunk in withheld.stream(ASKED)]
        last = chunks[-1]
        assert isinstance(last, FinalChunk)
        history = [*ASKED.messages, last.message, HumanMessage("And?")]
        _ = [chunk async for chunk in withheld.stream(ModelRequest(history))]
    assert joined(chunks)[1] == f"To {MAIL}"
    block = server.bodies[1]["messages"][1]["content"][0]
    assert block == {"type": "thinking", "thinking": f"To {STAND_IN}", "signature": signature}


@pytest.mark.parametrize(
    "output",
    [ChoiceOutput((MAIL, "nobody")), JsonOutput({"type": "string", "enum": [MAIL, "nobody"]})],
)
async def test_choices_are_withheld_as_well(output: Any) -> None:
    member = "choice" if isinstance(output, ChoiceOutput) else "value"
    reply = completion({"content": json.dumps({member: STAND_IN})})
    async with serving("openai", reply) as (model, server):
        asked = ModelRequest(ASKED.messages, output=output)
        chunks = [chunk async for chunk in Withholding(model, EMAILS).stream(asked)]
    assert MAIL in joined(chunks)[0]
    assert STAND_IN not in joined(chunks)[0]
    assert MAIL not in json.dumps(server.bodies)


@given(
    st.text(alphabet='[]withheld:email#12"\\ab ', max_size=60),
    st.lists(st.integers(0, 80), max_size=12),
    st.booleans(),
)
def test_however_it_is_cut_the_same_is_shown(text: str, cuts: list[int], early: bool) -> None:
    told = f"{text}{STAND_IN}{text}" if early else f"{STAND_IN}{text}"
    edges = sorted({0, len(told), *(cut for cut in cuts if cut < len(told))})
    parts = [told[a:b] for a, b in pairwise(edges)]
    for kind in (TextChunk, ReasoningChunk):
        pieces = _Pieces(standing())
        chunks = [shown for part in parts for shown in pieces.shown(kind(part))]
        chunks += list(pieces.shown(FinalChunk(AIMessage(""), Usage())))
        shown = "".join(c.text for c in chunks if isinstance(c, kind))
        assert shown == standing().show(told)


def standing() -> StandIns:
    stand_ins = StandIns(EMAILS, [])
    assert stand_ins.hide(MAIL) == STAND_IN
    return stand_ins


def test_a_value_with_quotes_stays_one_json_string() -> None:
    odd = '"a\\"b"@example.org'
    stand_ins = StandIns(Personal(frozenset({"email"})), [])
    hidden = stand_ins.hide(f"to {MAIL}")
    assert json.loads(stand_ins.show_quoted(json.dumps({"to": hidden, "odd": odd}))) == {
        "to": f"to {MAIL}",
        "odd": odd,
    }
