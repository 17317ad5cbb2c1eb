"""Explanations: the same decision, what every layer said, and what would really change it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings

from corral.policies.facts import ToolCall
from corral.policies.layers import Layered, decide
from corral.policies.presets import PRESETS
from corral.policies.rules import Policy, Rule
from corral.policies.writing.explain import explain
from corral.policies.writing.parse import parse_policy
from tests.policies.test_layers import calls, policies

POLICY = """\
[[rules]]
tool = "files__write_file"
args = {path = "reports/**"}
action = "allow"

[[rules]]
tool = "files__*"
agent = "writer"
action = "allow"

[[rules]]
tool = "files__*"
action = "deny"
reason = "only reports"
"""


def call(**args: Any) -> ToolCall:
    return ToolCall(
        "files__write_file",
        args,
        read_only=False,
        sandboxed=True,
        workspace="/w",
        agents=("assistant",),
    )


def own() -> Policy:
    return parse_policy(POLICY, "/home/me/mine.toml")


def test_it_names_the_rule_its_place_and_what_nearly_matched() -> None:
    found = explain(Layered.of(own()), call(path="other/a.md"))
    assert (found.decision.action, found.decision.reason) == ("deny", "only reports")
    assert found.decision.source == "/home/me/mine.toml, line 11"
    first, second = found.near
    assert (first.source, first.wanted, first.would) == (
        "/home/me/mine.toml, line 1",
        "path is reports/**",
        "allow",
    )
    assert first.seen == "path is other/a.md"
    assert (second.wanted, second.seen) == ("the agent is writer", "the agent is assistant")
    assert any("if path is reports/**" in change for change in found.changes)


def test_what_would_not_change_it_is_not_said_to() -> None:
    above = Policy("org", (Rule(action="deny"),), layer="organisation")
    found = explain(Layered.of(above, own()), call(path="other/a.md"))
    assert {miss.would for miss in found.near} == {"deny"}
    assert not any("It would be" in change for change in found.changes)
    assert any("only who keeps that file" in change for change in found.changes)


def test_every_layer_is_told_also_those_that_say_nothing() -> None:
    asks = Policy("org", (Rule(action="ask"),), layer="organisation")
    silent = Policy("corral.toml", (Rule(tool="x__y", action="deny"),), layer="project")
    found = explain(Layered.of(asks, silent, own()), call(path="reports/a"))
    said = [(one.layer, one.decision.action) for one in found.opinions]
    assert said == [("organisation", "ask"), ("user", "allow")]
    assert found.silent == ("project (corral.toml)",)


def test_an_ask_says_whether_an_answer_ahead_would_do() -> None:
    asking = explain(Layered(), call(path="a"))
    assert any('"always"' in change for change in asking.changes)
    always = Policy("mine", (Rule(every_time=True, action="ask"),))
    assert not any('"always"' in one for one in explain(Layered.of(always), call()).changes)
    answered = explain(Layered(), call(path="a"), [Rule(action="allow")])
    assert answered.decision.layer == "standing"
    assert answered.changes == ("Remove the standing rule to be asked again.",)


def test_a_path_that_leaves_the_workspace_is_told() -> None:
    found = explain(Layered.of(PRESETS["workspace"]), call(path="../x"))
    (miss,) = found.near
    assert (miss.wanted, miss.seen) == ("no path leaves the workspace", "the path is ../x")


def test_it_is_json_all_the_way() -> None:
    told = explain(Layered.of(own()), call(path="x")).to_json()
    assert told["decision"]["action"] == "deny"
    assert told["near"][0]["would"] == "allow"


@settings(deadline=None, max_examples=60)
@given(policies, policies, calls)
def test_it_is_the_decision_that_is_made(one: Policy, other: Policy, made: ToolCall) -> None:
    policy = Layered.of(one, other)
    found = explain(policy, made)
    assert found.decision == decide(policy, made)
    assert found.changes
