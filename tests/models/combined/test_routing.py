from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage

from corral.policies.prices import Price
from corral.runtime.models.combined.fallback import Fallback
from corral.runtime.models.combined.opening import asked_first
from corral.runtime.models.combined.routing import Route
from corral.runtime.models.combined.settings import RouteRule
from corral.runtime.models.contract import ModelRequest, Sampling
from corral.tools.contract import ToolSpec
from tests.models.combined.fakes import Fake, answer, asking

TOOL = ToolSpec(server="files", tool="read", description="Read.", input_schema={"type": "object"})
PICTURE = HumanMessage([{"type": "image", "base64": "AA==", "mime_type": "image/png"}])


def route(*rules: RouteRule, **models: Fake) -> Route:
    known = {"big": Fake("big"), "small": Fake("small"), **models}
    return Route("smart", rules, "small", known)


def goes_to_big(rule: dict[str, Any], request: ModelRequest) -> bool:
    return route(RouteRule(model="big", **rule)).choose(request).model.name == "big"


@pytest.mark.parametrize(
    ("rule", "request_", "fits"),
    [
        ({"tools": True}, asking(tools=(TOOL,)), True),
        ({"tools": True}, asking(), False),
        ({"tools": False}, asking(), True),
        ({"images": True}, ModelRequest([PICTURE]), True),
        ({"images": True}, asking(), False),
        ({"reasoning": True}, asking(reasoning="high"), True),
        ({"reasoning": True}, asking(reasoning="none"), False),
        ({"min_tokens": 1000}, asking("word " * 2000), True),
        ({"min_tokens": 1000}, asking("word"), False),
        ({"max_tokens": 100}, asking("word"), True),
        ({"max_tokens": 100}, asking("word " * 2000), False),
        ({"agents": ["coder"]}, asking(agent="coder"), True),
        ({"agents": ["coder"]}, asking(agent="writer"), False),
        ({"purposes": ["summary"]}, asking(purpose="summary"), True),
        ({"purposes": ["summary"]}, asking(), False),
        ({"tags": ["nightly"]}, asking(tags=("a", "nightly")), True),
        ({"tags": ["nightly"]}, asking(), False),
        ({"words": ["Prove", "hard maths"]}, asking("Please PROVE it."), True),
        ({"words": ["hard maths"]}, asking("some hard, maths!"), True),
        ({"words": ["prove"]}, asking("improved"), False),
        ({"tools": True, "words": ["prove"]}, asking("prove"), False),
        ({}, asking(), True),
    ],
)
def test_a_rule_fits_when_all_it_says_is_true(
    rule: dict[str, Any], request_: ModelRequest, fits: bool
) -> None:
    assert goes_to_big(rule, request_) is fits


def test_words_are_looked_for_in_what_the_user_wrote_last() -> None:
    said = [HumanMessage("prove it"), AIMessage("How?"), HumanMessage("never mind")]
    assert not goes_to_big({"words": ["prove"]}, ModelRequest(said))


@given(st.text(max_size=200), st.text(alphabet=st.characters(categories=["L"]), min_size=1))
def test_a_word_of_the_text_is_found_wherever_it_stands(text: str, word: str) -> None:
    assert goes_to_big({"words": [word]}, asking(f"{text} {word} {text}"))


async def test_the_first_rule_that_fits_counts_and_is_told() -> None:
    smart = route(
        RouteRule(model="big", tools=True), RouteRule(model="middle"), middle=Fake("middle", ["m"])
    )
    final = await answer(smart, asking())
    assert final.model == "middle"
    assert final.facts == {"routed": [{"to": "middle", "because": "rule 2"}]}


async def test_without_a_rule_that_fits_the_default_is_asked() -> None:
    smart = route(RouteRule(model="big", tools=True), small=Fake("small", ["s"]))
    assert (await answer(smart, asking())).facts["routed"][0]["because"] == "default"


def test_a_route_within_a_route_tells_both_ways() -> None:
    inner = route(RouteRule(model="big"))
    assert inner.price is not None
    assert inner.context_window == 10_000


def test_the_cheapest_with_room_is_asked() -> None:
    rule = RouteRule(cheapest=("dear", "cheap", "tiny", "unknown"))
    smart = route(
        rule,
        dear=Fake("dear", price=Price(input=5.0, output=5.0)),
        cheap=Fake("cheap", price=Price(input=1.0, output=1.0)),
        tiny=Fake("tiny", price=Price(input=0.1, output=0.1), context_window=500),
        unknown=Fake("unknown", price=None),
    )
    assert smart.choose(asking()).model.name == "cheap"
    short = asking(sampling=Sampling(max_tokens=10))
    assert smart.choose(short).model.name == "tiny"
    assert smart.choose(asking("word " * 20_000)).model.name == "dear", "the first of the largest"


def test_a_model_with_dear_answers_is_not_cheap_for_a_long_answer() -> None:
    rule = RouteRule(cheapest=("talker", "reader"))
    smart = route(
        rule,
        talker=Fake("talker", price=Price(input=0.1, output=9.0)),
        reader=Fake("reader", price=Price(input=1.0, output=1.0)),
    )
    assert smart.choose(asking(sampling=Sampling(max_tokens=1000))).model.name == "reader"
    brief = asking("word " * 3000, sampling=Sampling(max_tokens=1))
    assert smart.choose(brief).model.name == "talker"


def test_what_is_asked_first_is_found_however_deep_it_is() -> None:
    deep = Fallback("a | b", [route(RouteRule(model="big")), Fake("b")])
    assert asked_first(deep).name == "small"
    assert asked_first(Fake("alone")).name == "alone"
