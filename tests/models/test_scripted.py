from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from corral.errors import ConfigError, ModelError, NotFoundError
from corral.runtime.models.contract import FinalChunk, ModelRequest, TextChunk, Usage
from corral.runtime.models.scripted import ScriptedCall, ScriptedModel, ScriptedTurn

ISSUE_SCRIPT = """
- {text: "Let me compute.", tool_calls: [{name: python__run_code, args: {code: "print(6*7)"}}]}
- {text: "42"}
"""


def request(turn: int = 0, *messages: BaseMessage) -> ModelRequest:
    return ModelRequest(messages or [HumanMessage("What is 6*7?")], turn=turn)


async def answer(model: ScriptedModel, asked: ModelRequest) -> tuple[list[str], FinalChunk]:
    chunks = [chunk async for chunk in model.stream(asked)]
    assert isinstance(chunks[-1], FinalChunk)
    texts = [chunk.text for chunk in chunks[:-1] if isinstance(chunk, TextChunk)]
    assert len(texts) == len(chunks) - 1
    return texts, chunks[-1]


def script(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "turns.yaml"
    path.write_text(text, encoding="utf-8")
    return path


async def test_answers_with_the_turn_that_the_run_has_come_to(tmp_path: Path) -> None:
    model = ScriptedModel.from_file(script(tmp_path, ISSUE_SCRIPT))
    texts, first = await answer(model, request(0))
    assert texts == ["Let ", "me ", "compute."]
    assert first.stop_reason == "tool_calls"
    [call] = first.message.tool_calls
    assert (call["name"], call["args"]) == ("python__run_code", {"code": "print(6*7)"})
    texts, second = await answer(model, request(1))
    assert (texts, second.message.text, second.stop_reason) == (["42"], "42", "stop")
    _, again = await answer(model, request(0))
    assert again == first


@pytest.mark.parametrize("text", ["", " ", "a", "  two\n\nlines \t", "Grüß Gott — 世界 ok\n"])
async def test_chunks_add_up_to_the_text(text: str) -> None:
    texts, final = await answer(ScriptedModel([{"text": text}]), request())
    assert "".join(texts) == text == final.message.content


async def test_call_ids_are_stable_and_unique_in_a_thread() -> None:
    model = ScriptedModel([{"tool_calls": [{"name": "a__b"}, {"name": "a__b"}]}])
    asked = HumanMessage("go", id="one")
    _, first = await answer(model, request(0, asked))
    _, replayed = await answer(model, request(0, HumanMessage("go", id="two")))
    ids = [call["id"] for call in first.message.tool_calls]
    assert ids == [call["id"] for call in replayed.message.tool_calls]
    results = [ToolMessage("done", tool_call_id=str(identity)) for identity in ids]
    second_run = request(0, asked, first.message, *results, HumanMessage("go"))
    _, later = await answer(model, second_run)
    ids += [call["id"] for call in later.message.tool_calls]
    assert len(set(ids)) == 4


async def test_a_turn_that_is_not_there_is_a_loud_error(tmp_path: Path) -> None:
    path = script(tmp_path, ISSUE_SCRIPT)
    model = ScriptedModel.from_file(path)
    with pytest.raises(ModelError) as caught:
        await answer(model, request(2, HumanMessage("And 7*8?")))
    assert str(path) in caught.value.message
    assert "2 turns" in caught.value.message
    assert "turn 2" in caught.value.message
    assert "And 7*8?" in caught.value.message


def test_turns_left_over_are_a_loud_error() -> None:
    model = ScriptedModel([{"text": "one"}, {"text": "two", "tool_calls": [{"name": "a__b"}]}])
    model.check_complete(2)
    with pytest.raises(ModelError, match=r"1 of the 2 turns.*'two' calling a__b"):
        model.check_complete(1)


async def test_an_error_comes_after_the_text() -> None:
    model = ScriptedModel([{"text": "half an", "error": "the connection is gone"}])
    chunks = model.stream(request())
    assert [await anext(chunks), await anext(chunks)] == [TextChunk("half "), TextChunk("an")]
    with pytest.raises(ModelError, match="the connection is gone"):
        await anext(chunks)


async def test_a_delayed_turn_can_be_stopped_in_the_middle() -> None:
    model = ScriptedModel([{"text": "one two", "delay": 3600}])
    task = asyncio.ensure_future(answer(model, request()))
    done, _ = await asyncio.wait([task], timeout=0.05)
    assert not done
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_usage_is_four_characters_a_token_unless_the_turn_says() -> None:
    model = ScriptedModel(
        [{"text": "12345"}, {"text": "x", "usage": {"input_tokens": 7, "output_tokens": 9}}]
    )
    _, first = await answer(model, request(0, HumanMessage("123456789"), AIMessage("1234")))
    assert first.usage == Usage(input_tokens=4, output_tokens=2)
    _, second = await answer(model, request(1))
    assert second.usage == Usage(input_tokens=7, output_tokens=9)


async def test_turns_may_be_given_as_records() -> None:
    turn = ScriptedTurn("hi", (ScriptedCall("a__b", {"x": 1}),), stop_reason="length")
    model = ScriptedModel([turn], name="scripted:here", context_window=512)
    _, final = await answer(model, request())
    assert final.stop_reason == "length"
    assert final.message.tool_calls[0]["args"] == {"x": 1}
    assert (model.name, model.context_window) == ("scripted:here", 512)


async def test_yaml_dates_stay_text(tmp_path: Path) -> None:
    text = "- tool_calls: [{name: a__b, args: {day: 2026-11-22, n: 0x1F, nil: null}}]"
    _, final = await answer(ScriptedModel.from_file(script(tmp_path, text)), request())
    assert final.message.tool_calls[0]["args"] == {"day": "2026-11-22", "n": 31, "nil": None}


BAD_SCRIPTS: list[tuple[str, str, list[str]]] = [
    ("empty", "", ["expected a list"]),
    ("an empty list", "[]", ["at least one turn"]),
    ("a mapping", "text: hi", ["expected a list"]),
    ("not YAML", '- {text: "hi"}\n- {text: "hi\n', ["turns.yaml:3", "not YAML"]),
    ("an unknown tag", "- {text: !!python/object:os.system {}}", ["turns.yaml:1", "not YAML"]),
    ("a turn that is text", '- {text: "a"}\n- hello', ["turns.yaml:2", "turn 1", "'hello'"]),
    ("an empty turn", "- {}", ["turn 0", "empty"]),
    ("unknown keys", "\n- {txt: a, tool: b}", ["turns.yaml:2", "unknown key txt, tool", "known"]),
    ("text that is a number", "- {text: 42}", ["text must be text", "42", "quotes"]),
    ("calls that are no list", "- {tool_calls: {name: a}}", ["tool_calls must be a list"]),
    ("a call without a name", "- {tool_calls: [{args: {}}]}", ["tool call 0", "name"]),
    ("a call with an unknown key", "- {tool_calls: [{name: a, arg: 1}]}", ["unknown key arg"]),
    ("args that are a list", "- {tool_calls: [{name: a, args: [1]}]}", ["args must be a mapping"]),
    ("a key that is not text", "- {tool_calls: [{name: a, args: {on: 1}}]}", ["key True"]),
    ("a value that is not JSON", "- {tool_calls: [{name: a, args: {x: [.nan]}}]}", ["x, 0", "nan"]),
    ("bytes", "- {tool_calls: [{name: a, args: {x: !!binary aGk=}}]}", ["not a JSON value"]),
    ("a negative delay", "- {text: a, delay: -1}", ["delay must be 0 or more"]),
    ("a delay that is text", "- {text: a, delay: soon}", ["delay must be a number", "soon"]),
    ("usage with a fraction", "- {text: a, usage: {input_tokens: 1.5}}", ["whole number"]),
    ("an unknown stop reason", "- {text: a, stop_reason: done}", ["one of stop, tool_calls"]),
    ("a reference to itself", "- &a {tool_calls: [{name: b, args: {x: *a}}]}", ["turns.yaml"]),
]


@pytest.mark.parametrize(
    ("text", "said"), [case[1:] for case in BAD_SCRIPTS], ids=[c[0] for c in BAD_SCRIPTS]
)
def test_a_bad_script_is_explained(tmp_path: Path, text: str, said: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        ScriptedModel.from_file(script(tmp_path, text))
    for part in ["turns.yaml", *said]:
        assert part in caught.value.message
    assert caught.value.hint


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.yaml", tmp_path):
        with pytest.raises(NotFoundError, match=str(path)):
            ScriptedModel.from_file(path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        ScriptedModel.from_file(binary)


def test_bad_turns_in_code_name_the_turn() -> None:
    bad: Any = [{"text": "ok"}, {"test": "oops"}]
    with pytest.raises(ConfigError, match="turn 1: unknown key test"):
        ScriptedModel(bad)
