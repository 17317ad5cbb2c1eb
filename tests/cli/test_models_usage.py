"""``corral models usage``, and what the other commands say of a model call's figures."""

from __future__ import annotations

import pytest

from tests.cli.place import Chat, Place

THINKING = """
- text: "I looked."
  reasoning: "The user wants\\nan answer."
  tool_calls: [{name: files__list_directory, args: {path: .}}]
  usage: {input_tokens: 1000, output_tokens: 50, cached_tokens: 800, reasoning_tokens: 30}
- {text: "All done.", usage: {input_tokens: 1200, output_tokens: 20, cached_tokens: 1000}}
"""


@pytest.fixture
def thinking(place: Place) -> Place:
    (place.scripts / "thinking.yaml").write_text(THINKING)
    return place


def test_how_models_were_used(thinking: Place) -> None:
    model = thinking.model("thinking")
    assert thinking.corral("run", "--model", model, "Look.").code == 0
    assert thinking.corral("run", "--model", thinking.model("hello"), "Hi.").code == 0
    used = {line["key"]: line for line in thinking.corral("models", "usage", "--json").lines}
    assert set(used) == {model, thinking.model("hello")}
    mine = used[model]
    assert (mine["calls"], mine["errors"], mine["cache_hits"]) == (2, 0, 0)
    assert (mine["input_tokens"], mine["cached_tokens"]) == (2200, 1800)
    assert (mine["output_tokens"], mine["reasoning_tokens"]) == (70, 30)
    assert 0 <= mine["first_token_ms_median"] <= mine["first_token_ms_p95"]
    shown = thinking.corral("models", "usage").out
    assert "2,200" in shown
    assert "first token" in shown


@pytest.mark.parametrize("by", ["model", "agent", "day"])
def test_usage_by(thinking: Place, by: str) -> None:
    assert thinking.corral("run", "--model", thinking.model("thinking"), "Look.").code == 0
    (line,) = thinking.corral("models", "usage", "--json", "--by", by).lines
    assert (line["by"], line["calls"]) == (by, 2)
    assert thinking.corral("models", "usage", "--json", "--since", "2999-01-01").lines == []


def test_nothing_was_used_yet(place: Place) -> None:
    result = place.corral("models", "usage")
    assert (result.code, result.out) == (0, "")
    assert "No model was asked yet" in result.err


def test_a_date_that_is_none_is_refused(place: Place) -> None:
    result = place.corral("models", "usage", "--since", "soon")
    assert result.code == 2
    assert "neither a date nor an age" in result.err


def test_the_trace_tells_cached_and_reasoning_tokens(thinking: Place) -> None:
    assert thinking.corral("run", "--model", thinking.model("thinking"), "Look.").code == 0
    assert "2200+70 tokens (1800 cached, 30 reasoning)" in thinking.corral("trace", "last").out
    effects = [line for line in thinking.corral("trace", "last", "--json").lines if "kind" in line]
    figures = [line["cached_tokens"] for line in effects if line["kind"] == "model"]
    assert figures == [800, 1000]


def test_thoughts_are_events_and_not_the_answer(thinking: Place) -> None:
    model = thinking.model("thinking")
    told = thinking.corral("run", "--json", "--model", model, "Look.").lines
    thoughts = [line["text"] for line in told if line["type"] == "reasoning"]
    assert thoughts == ["The user wants\nan answer."]
    plain = thinking.corral("run", "--model", model, "Look.")
    assert "The user wants" not in plain.out + plain.err


@pytest.mark.slow
def test_the_repl_shows_thoughts_when_it_is_told_to(thinking: Place) -> None:
    chat = Chat(thinking, "--model", thinking.model("thinking"))
    chat.see("»")
    chat.type("/reasoning")
    chat.see("is shown")
    chat.type("Look.")
    chat.see("The user wants", "an answer.", "All done.", "»")
    chat.leave()
