"""Answers that are values of Python types: asked, checked, asked again, replayed, paid for."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage
from langgraph.graph import START, MessagesState, StateGraph
from pydantic import BaseModel, field_validator

import corral
from corral.errors import RunError, UsageError
from corral.policies.budgets import Budget
from corral.runtime.config import Settings
from corral.runtime.models.contract import Chunk, JsonOutput, ModelRequest
from corral.runtime.models.structured import Shape
from tests.runtime.agents import Turn, turn


class Person(BaseModel):
    """Somebody, in capitals."""

    name: str
    age: int

    @field_validator("name")
    @classmethod
    def _in_capitals(cls, name: str) -> str:
        if name != name.upper():
            raise ValueError("write names in capitals")
        return name


class Tree(BaseModel):
    """A type that has itself in it."""

    value: int
    children: list[Tree] = []


class Color(Enum):
    """A choice."""

    RED = "red"
    BLUE = "blue"


class Recorded(corral.ScriptedModel):
    """A scripted model that keeps what it was asked."""

    def __init__(self, turns: Sequence[Turn], **more: Any) -> None:
        super().__init__(turns, **more)
        self.asked: list[ModelRequest] = []

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Keep the request, and answer as the script says."""
        self.asked.append(request)
        return super().stream(request)


def with_model(*texts: str, **fields: Any) -> tuple[Recorded, corral.RunOptions]:
    """A model that says these texts, one a call, and options to ask it."""
    model = Recorded([turn(text) for text in texts])
    return model, corral.RunOptions(agent=corral.Agent(chat_model=model, **fields))


async def test_a_value_comes_from_a_run_of_its_own(settings: Settings) -> None:
    model, options = with_model('{"name": "ANN", "age": 3}')
    async with corral.open(settings) as c:
        person = await corral.extract(c, Person, "Who is it?", options)
        run = await c.records.run("last")
    assert person == Person(name="ANN", age=3)
    assert type(person) is Person
    assert (run.status, run.steps) == ("completed", 1)
    (asked,) = model.asked
    assert isinstance(asked.output, JsonOutput)
    assert asked.output.name == "Person"
    assert asked.output.schema["required"] == ["name", "age"]
    assert not asked.tools


async def test_an_answer_that_does_not_fit_is_asked_for_again(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    model, options = with_model('{"name": "ann", "age": 3}', '{"name": "ANN", "age": 3}')
    async with corral.open(settings) as c:
        person = await corral.extract(c, Person, "Who is it?", options)
        trace = await c.records.trace("last")
    assert person.name == "ANN"
    assert [effect.kind for effect in trace] == ["prepare", "model", "model"]
    again = [str(message.content) for message in model.asked[1].messages]
    assert again[-2] == '{"name": "ann", "age": 3}'
    assert "write names in capitals" in again[-1]
    assert "https://" not in again[-1]
    assert capfd.readouterr().err == ""


async def test_the_tries_are_bounded_and_the_error_is_said(settings: Settings) -> None:
    _, options = with_model(*['{"name": "ann", "age": 3}'] * 4)
    async with corral.open(settings) as c:
        with pytest.raises(RunError, match="write names in capitals"):
            await corral.extract(c, Person, "Who is it?", options)
        run = await c.records.run("last")
    assert (run.status, run.steps) == ("failed", 3)


async def test_an_answer_that_is_all_wrong_is_not_told_at_length(settings: Settings) -> None:
    wrong = json.dumps(["one"] * 5000)
    model, options = with_model(*[f'{{"answer": {wrong}}}'] * 3)
    async with corral.open(settings) as c:
        with pytest.raises(RunError, match="5000 validation errors") as caught:
            await corral.extract(c, list[int], "Which are they?", options)
    assert len(str(caught.value)) < 3000
    assert len(str(model.asked[1].messages[-1].content)) < 9000
    assert "answer.4999" in str(model.asked[1].messages[-1].content)


async def test_what_is_no_json_is_asked_for_again(settings: Settings) -> None:
    _, options = with_model("It is Ann.", '{"name": "ANN", "age": 3}')
    async with corral.open(settings) as c:
        assert (await corral.extract(c, Person, "Who is it?", options)).age == 3


async def test_a_budget_holds_for_the_tries(settings: Settings) -> None:
    model, options = with_model(*['{"name": "ann", "age": 3}'] * 3)
    budget = Budget(model_calls=2, at_limit="answer")
    limited = corral.RunOptions(agent=options.agent, budget=budget)
    async with corral.open(settings) as c:
        with pytest.raises(RunError, match="model calls"):
            await corral.extract(c, Person, "Who is it?", limited)
    assert len(model.asked) == 2


async def test_an_answer_that_was_cut_off_is_not_asked_for_again(settings: Settings) -> None:
    model = Recorded([{"text": '{"name": "AN', "stop_reason": "length"}])
    options = corral.RunOptions(agent=corral.Agent(chat_model=model))
    async with corral.open(settings) as c:
        with pytest.raises(RunError, match="cut off at its longest length"):
            await corral.extract(c, Person, "Who is it?", options)
    assert len(model.asked) == 1


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (list[int], '{"answer": [1, 2]}', [1, 2]),
        (list[Person], '{"answer": [{"name": "A", "age": 1}]}', [Person(name="A", age=1)]),
        (int | None, '{"answer": null}', None),
        (Color, '{"answer": "blue"}', Color.BLUE),
        (dict[str, float], '{"answer": {"a": 1.5}}', {"a": 1.5}),
        (Tree, '{"value": 1, "children": [{"value": 2}]}', Tree(value=1, children=[Tree(value=2)])),
        (Person | Tree, '{"answer": {"value": 1}}', Tree(value=1)),
    ],
)
async def test_types_of_all_kinds(settings: Settings, type_: Any, text: str, value: Any) -> None:
    model, options = with_model(text)
    async with corral.open(settings) as c:
        assert await corral.extract(c, type_, "Go.", options) == value
    (asked,) = model.asked
    assert isinstance(asked.output, JsonOutput)
    assert asked.output.schema.get("type") == "object" or "$ref" in asked.output.schema


async def test_a_type_without_a_schema_is_refused_before_anything_is_asked(
    settings: Settings,
) -> None:
    model, options = with_model("never")
    async with corral.open(settings) as c:
        with pytest.raises(UsageError, match="No answer can be of the type"):
            await corral.extract(c, logging.Logger, "Go.", options)
    assert not model.asked


def asking_twice(kit: corral.Kit) -> StateGraph[Any, Any, Any, Any]:
    """A graph of one node that asks for two values, and answers with both."""

    async def answer(state: MessagesState) -> dict[str, Any]:
        person = await kit.ask(state["messages"], returns=Person)
        number = await kit.ask([HumanMessage("How many?")], returns=int, retries=0)
        return {"messages": [AIMessage(f"{person.name} {number}", id="both")]}

    graph = StateGraph(MessagesState)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    return graph


ANSWERS = ('{"name": "ann", "age": 3}', '{"name": "ANN", "age": 3}', '{"answer": 7}')


async def test_a_graph_asks_for_values_and_its_replay_gets_the_same(settings: Settings) -> None:
    model, options = with_model(*ANSWERS, graph=asking_twice)
    async with corral.open(settings) as c:
        done = await c.run("Who?", options)
        report = await c.replay(done.run, options)
    assert (done.status, done.output, done.steps) == ("completed", "ANN 7", 3)
    assert (report.status, report.reused) == ("identical", report.effects)
    assert len(model.asked) == 3


async def test_a_run_that_pauses_between_two_tries_goes_on_there(settings: Settings) -> None:
    model, options = with_model(*ANSWERS, graph=asking_twice)
    limited = replace(options, budget=Budget(model_calls=1))
    async with corral.open(settings) as c:
        paused = await c.run("Who?", limited)
        (question,) = paused.approvals
        assert (paused.status, question.kind, len(model.asked)) == ("paused", "budget", 1)
        await c.approve(question.id)
        done = await c.resume(paused.run, replace(options, budget=Budget(model_calls=10)))
    assert (done.status, done.output) == ("completed", "ANN 7")
    assert len(model.asked) == 3


async def test_a_failing_model_fails_the_run_with_its_own_words(settings: Settings) -> None:
    model = corral.ScriptedModel([{"error": "The provider is on fire."}])
    options = corral.RunOptions(agent=corral.Agent(chat_model=model))
    async with corral.open(settings) as c:
        with pytest.raises(RunError, match="The provider is on fire"):
            await corral.extract(c, Person, "Who?", options)


@given(st.lists(st.builds(Tree, value=st.integers(), children=st.just([]))))
def test_what_is_written_is_read_again(trees: list[Tree]) -> None:
    shape = Shape[list[Tree]].of(list[Tree])
    written = json.dumps({"answer": [tree.model_dump() for tree in trees]})
    assert shape.read(written) == trees
