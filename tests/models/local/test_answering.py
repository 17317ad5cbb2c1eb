"""Answers by a model that wants to say what a test wrote down: text, output, re-asking, guesses."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from corral.errors import ModelError
from corral.runtime.models.contract import (
    ChoiceOutput,
    JsonOutput,
    ModelRequest,
    NamedTool,
    Sampling,
    TextChunk,
    ToolCallChunk,
    UsageChunk,
)
from corral.runtime.models.local.answering.decoding import Transcript
from corral.runtime.models.local.native.weights import Weights
from tests.models.conftest import tool
from tests.models.local.scripted_scores import spoken, weights

__all__ = ["weights"]  # the fixture

ASKED = ModelRequest([HumanMessage("Go.")])
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
UNIQUE = {"type": "array", "items": {"type": "integer"}, "minItems": 2, "uniqueItems": True}
TAG = tool({"type": "object", "properties": {"tags": UNIQUE}, "required": ["tags"]}, "tag")


def output(schema: dict[str, Any], **fields: Any) -> ModelRequest:
    return replace(ASKED, output=JsonOutput(schema), **fields)


def test_an_output_is_streamed_and_fits(weights: Weights) -> None:
    wish = '{"name": "Ada", "age": 36}'
    chunks, final, _ = spoken(weights, output(PERSON), wish)
    pieces = [one.text for one in chunks if isinstance(one, TextChunk)]
    assert "".join(pieces) == final.message.content == wish
    assert len(pieces) > 3
    assert final.stop_reason == "stop"
    assert final.facts == {}


def test_a_prompt_counts_while_it_is_evaluated(weights: Weights) -> None:
    chunks, final, _ = spoken(weights, ASKED, "Fine.")
    first = chunks[0]
    assert isinstance(first, UsageChunk)
    assert first.usage.input_tokens == final.usage.input_tokens > 0


def test_an_output_that_the_model_does_not_want_fits_all_the_same(weights: Weights) -> None:
    _, final, _ = spoken(weights, output(PERSON), "I am fine, thanks.")
    value = json.loads(str(final.message.content))
    assert isinstance(value["name"], str)
    assert isinstance(value["age"], int)


@pytest.mark.parametrize("wish", ["yes", "yes, please", "größe <|im_end|>"])
def test_a_choice(weights: Weights, wish: str) -> None:
    choices = ChoiceOutput(("yes", "yes, please", "no", "größe <|im_end|>"))
    _, final, _ = spoken(weights, replace(ASKED, output=choices), wish)
    assert final.message.content in choices.choices
    if "<|" not in wish:  # as text it is other tokens than the model's wish
        assert final.message.content == wish


@pytest.mark.parametrize("wish", ['CALL test__tag {"tags": [1, 2]}', '{"name": "Ada", "age": 36}'])
def test_an_output_leaves_calls_possible(weights: Weights, wish: str) -> None:
    _, final, _ = spoken(weights, output(PERSON, tools=[TAG]), wish)
    calls = [call["args"] for call in final.message.tool_calls]
    assert (calls, final.message.content) == (
        ([{"tags": [1, 2]}], "") if wish.startswith("CALL") else ([], wish)
    )


def test_what_the_grammar_cannot_hold_is_checked_and_asked_again(weights: Weights) -> None:
    chunks, final, context = spoken(weights, output(UNIQUE), "[1, 1]", "[1, 2]")
    assert final.message.content == "[1, 2]"
    assert final.facts["reasked"] == 1
    assert final.facts["schemas"] == {"output": {"checked": ["/: uniqueItems"]}}
    assert "".join(one.text for one in chunks if isinstance(one, TextChunk)) == "[1, 2]"
    told = "".join(weights.piece(token).decode("utf-8", "replace") for token in context.prompts[1])
    assert "[1, 1]" in told
    assert "unique" in told


def test_a_call_is_checked_and_asked_again(weights: Weights) -> None:
    must = replace(ASKED, tools=[TAG], tool_choice="required")
    chunks, final, _ = spoken(
        weights, must, 'CALL test__tag {"tags": [1, 1]}', 'CALL test__tag {"tags": [1, 3]}'
    )
    (call,) = final.message.tool_calls
    assert call["args"] == {"tags": [1, 3]}
    shown = "".join(one.args for one in chunks if isinstance(one, ToolCallChunk))
    assert json.loads(shown) == call["args"]


def test_after_a_few_attempts_it_is_an_error_that_says_so(weights: Weights) -> None:
    with pytest.raises(ModelError, match="after 3 attempts") as error:
        spoken(weights, output(UNIQUE), "[1, 1]")
    assert "unique" in error.value.message
    assert error.value.hint


@pytest.mark.parametrize("count", [18, 24, 40])
def test_what_has_begun_is_closed_while_there_are_tokens(weights: Weights, count: int) -> None:
    schema = {"type": "array", "items": PERSON}
    wish = '[{"name": "' + "very long name " * 100
    asked = output(schema, sampling=Sampling(max_tokens=count))
    _, final, _ = spoken(weights, asked, wish)
    value = json.loads(str(final.message.content))
    assert value
    assert all(person["name"].startswith("very") for person in value[:1])
    assert final.usage.output_tokens <= count


def test_an_output_for_which_there_are_too_few_tokens_is_refused_at_once(weights: Weights) -> None:
    with pytest.raises(ModelError, match="shortest answer"):
        spoken(weights, output(PERSON, sampling=Sampling(max_tokens=6)), "{}")


def test_a_tool_that_is_not_offered_cannot_be_demanded(weights: Weights) -> None:
    with pytest.raises(ModelError, match="test__other"):
        spoken(weights, replace(ASKED, tools=[TAG], tool_choice=NamedTool("test__other")), "")


@pytest.mark.parametrize("stop", ["ne. T", "One", "two.\n"])
def test_a_stop_text_over_the_borders_of_tokens(weights: Weights, stop: str) -> None:
    asked = replace(ASKED, sampling=Sampling(stop=(stop,)))
    wish = "Some. One. Two and two.\nThree."
    chunks, final, _ = spoken(weights, asked, wish)
    assert final.message.content == wish.split(stop, maxsplit=1)[0].rstrip()
    assert "".join(o.text for o in chunks if isinstance(o, TextChunk)) == final.message.content


def test_log_probabilities_are_those_of_the_text(weights: Weights) -> None:
    asked = replace(ASKED, sampling=Sampling(logprobs=3))
    _, final, _ = spoken(weights, asked, "One, two, größe.")
    assert "".join(one.text for one in final.logprobs).replace("\N{REPLACEMENT CHARACTER}", "")
    for one in final.logprobs:
        assert len(one.top) == 3
        assert one.top[0] == (one.text, one.logprob)
        assert math.exp(one.logprob) <= 1.0
    asked = output(PERSON, sampling=Sampling(logprobs=0))
    _, final, _ = spoken(weights, asked, '{"name": "Ada", "age": 36}')
    assert "".join(one.text for one in final.logprobs) == final.message.content
    assert spoken(weights, ASKED, "One.")[1].logprobs == ()


def test_usage_is_told_on_the_way(weights: Weights) -> None:
    chunks, final, _ = spoken(weights, ASKED, "one two three four five six seven eight " * 10)
    told = [one.usage.output_tokens for one in chunks if isinstance(one, UsageChunk)]
    assert told[0] == 0
    assert told == sorted(told)
    assert 0 <= final.usage.output_tokens - told[-1] <= 17


class Guesser:
    """Guesses ahead what a test says, right or wrong."""

    def __init__(self, weights: Weights, text: str) -> None:
        self._tokens = weights.tokenize(text)
        self._at = 0

    def propose(self, tokens: Sequence[int], most: int) -> Sequence[int]:
        if tokens[-1] not in self._tokens:
            return [0, 1][:most]
        at = self._tokens.index(tokens[-1]) + 1
        return self._tokens[at : at + most]

    def close(self) -> None:
        pass


WISH = "Alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu."


@pytest.mark.parametrize("guess", [WISH, "Alpha beta delta gamma zeta mu. eta", "nothing of it"])
@pytest.mark.parametrize(
    "asked",
    [ASKED, output({"type": "array", "items": {"type": "string"}})],
    ids=["text", "output"],
)
def test_guesses_change_nothing_but_the_number_of_evaluations(
    weights: Weights, asked: ModelRequest, guess: str
) -> None:
    wish = WISH if asked.output is None else json.dumps([WISH])
    drafting = SimpleNamespace(drafter=lambda: Guesser(weights, guess))
    _, plain, slow = spoken(weights, asked, wish)
    _, guessed, fast = spoken(weights, asked, wish, drafting=drafting)
    assert plain.message.content == guessed.message.content == wish
    assert plain.usage == guessed.usage
    if guess == WISH:
        assert fast.evaluated < slow.evaluated


def test_bytes_of_one_letter_come_in_pieces(weights: Weights) -> None:
    transcript = Transcript(weights)
    text = "größe \N{SNOWMAN}"
    tokens = weights.tokenize(text)
    assert "".join(map(transcript.push, tokens)) + transcript.rest() == text
    assert len(tokens) > len(text.split())
