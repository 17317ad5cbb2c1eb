"""The policies of agents: they narrow what agents and those below them may do, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.policies.facts import ToolCall
from corral.policies.layers import AgentLayer, Layered, decide, opinions
from corral.policies.presets import PRESETS
from corral.policies.rules import Policy, Rule
from corral.policies.writing.explain import explain

STRICTNESS = {"allow": 0, "ask": 1, "deny": 2}
WRITE = Rule(tool="files__write_file", action="deny", reason="not you")
FREE = Rule(action="allow")


def call(*agents: str, name: str = "files__write_file", read_only: bool = False) -> ToolCall:
    return ToolCall(name, {}, read_only=read_only, sandboxed=True, workspace="/work", agents=agents)


def preset(name: str, *agents: str) -> AgentLayer:
    return AgentLayer(agents, replace(PRESETS[name], layer="agent"))


def rules(*rules: Rule, of: tuple[str, ...]) -> AgentLayer:
    return AgentLayer(of, Policy("rules", rules, layer="agent"), is_whole=False)


def under(run: str, *layers: AgentLayer) -> Layered:
    return replace(Layered.of(PRESETS[run]), agents=layers)


class TestWhoseCalls:
    @pytest.mark.parametrize(
        ("agents", "action"),
        [
            (("lead",), "allow"),
            (("lead", "reader"), "deny"),
            (("lead", "reader", "helper"), "deny"),
            (("lead", "writer"), "allow"),
            (("reader",), "allow"),
            ((), "allow"),
        ],
    )
    def test_the_agents_and_those_of_all_below_it(
        self, agents: tuple[str, ...], action: str
    ) -> None:
        policy = under("trusted", preset("read-only", "lead", "reader"))
        assert decide(policy, call(*agents)).action == action


class TestNarrowing:
    def test_what_an_agent_allows_is_not_allowed_by_that(self) -> None:
        for layer in (preset("trusted", "lead"), rules(FREE, of=("lead",))):
            assert decide(under("ask", layer), call("lead")).action == "ask"
            assert decide(under("read-only", layer), call("lead")).action == "deny"

    def test_a_whole_policy_asks_about_what_none_of_its_rules_covers(self) -> None:
        policy = under("trusted", preset("ask", "lead"))
        assert decide(policy, call("lead")).action == "ask"
        assert decide(policy, call("lead", read_only=True)).action == "allow"
        assert "the agent lead" in str(decide(policy, call("lead")).rule)

    def test_rules_alone_say_nothing_of_other_calls(self) -> None:
        policy = under("trusted", rules(WRITE, of=("lead",)))
        assert decide(policy, call("lead")).action == "deny"
        assert decide(policy, call("lead", name="files__move")).action == "allow"

    def test_an_answer_given_ahead_answers_an_agents_question_and_no_denial(self) -> None:
        asking, denying = preset("ask", "lead"), preset("read-only", "lead")
        assert decide(under("trusted", asking), call("lead"), (FREE,)).action == "allow"
        assert decide(under("trusted", denying), call("lead"), (FREE,)).action == "deny"


def test_it_is_explained_with_the_others() -> None:
    policy = under("trusted", preset("read-only", "lead"), rules(WRITE, of=("lead", "reader")))
    found = explain(policy, call("lead"))
    assert [one.layer for one in found.opinions] == ["user", "agent"]
    assert found.silent == ("agent (rules of reader)",)
    assert "only another policy of that agent" in found.changes[0]


ACTIONS = st.sampled_from(("allow", "ask", "deny"))
RULES = st.lists(
    st.builds(
        Rule,
        tool=st.sampled_from(("*", "files__*", "files__move")),
        read_only=st.sampled_from((None, True, False)),
        action=ACTIONS,
    ),
    max_size=3,
)


@given(RULES, RULES, st.booleans(), st.booleans())
def test_no_policy_of_an_agent_loosens_anything(
    run: list[Rule], own: list[Rule], is_whole: bool, read_only: bool
) -> None:
    without = Layered.of(Policy("run", tuple(run)))
    layer = AgentLayer(("lead",), Policy("own", tuple(own), layer="agent"), is_whole=is_whole)
    asked = call("lead", name="files__move", read_only=read_only)
    narrowed = replace(without, agents=(layer,))
    before, after = decide(without, asked), decide(narrowed, asked)
    assert STRICTNESS[after.action] >= STRICTNESS[before.action]
    assert opinions(narrowed, asked)[: len(opinions(without, asked))] == opinions(without, asked)
