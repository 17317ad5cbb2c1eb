"""Layers: the strictest opinion counts, and nothing below or ahead of it loosens it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.policies.always import always_rule
from corral.policies.facts import ToolCall
from corral.policies.layers import LAYERS, Layered, decide
from corral.policies.presets import PRESETS
from corral.policies.provenance.labels import Label
from corral.policies.rules import LayerName, Policy, Rule

WORKSPACE = "/work/space"
WRITE, MAIL = "files__write_file", "mail__send"
UNTRUSTED = Label(("web__get e.org",), untrusted=True, readers=frozenset())
STRICTNESS = {"allow": 0, "ask": 1, "deny": 2}


def call(name: str = WRITE, *, read_only: bool = False, **args: Any) -> ToolCall:
    sandboxed = name.startswith("files")
    return ToolCall(
        name,
        args,
        read_only=read_only,
        sandboxed=sandboxed,
        workspace=WORKSPACE,
        network=not sandboxed,
        open_world=not sandboxed,
    )


def mail(label: Label = UNTRUSTED, **args: Any) -> ToolCall:
    return ToolCall(MAIL, args, read_only=False, sandboxed=False, workspace=WORKSPACE, label=label)


def layer(name: LayerName, *rules: Rule, base: Policy | None = None) -> Policy:
    lines = tuple(range(1, len(rules) + 1))
    return Policy(f"{name}.toml", rules, base, (f"/etc/{name}.toml",), name, lines)


ALLOW, ASK, DENY = (Rule(action=action) for action in ("allow", "ask", "deny"))


class TestTheStrictestOpinion:
    @pytest.mark.parametrize(
        ("rules", "expected"),
        [
            ((ALLOW, ALLOW, ALLOW, ALLOW), ("allow", "organisation")),
            ((ALLOW, ALLOW, ASK, ALLOW), ("ask", "user")),
            ((ALLOW, ASK, ASK, DENY), ("deny", "session")),
            ((ASK, DENY, ALLOW, ALLOW), ("deny", "project")),
            ((DENY, ALLOW, ALLOW, ALLOW), ("deny", "organisation")),
        ],
    )
    def test_counts(self, rules: tuple[Rule, ...], expected: tuple[str, str]) -> None:
        policies = [layer(name, rule) for name, rule in zip(LAYERS, rules, strict=True)]
        decision = decide(Layered.of(*reversed(policies)), call(path="a"))
        assert (decision.action, decision.layer) == expected
        assert decision.source == f"/etc/{expected[1]}.toml, line 1"

    def test_a_layer_without_a_rule_for_the_call_says_nothing(self) -> None:
        other = layer("organisation", Rule(tool="x__y", action="deny"))
        decision = decide(Layered.of(other, layer("user", ALLOW)), call(path="a"))
        assert (decision.action, decision.layer) == ("allow", "user")

    def test_where_none_says_anything_only_what_is_read_only_is_allowed(self) -> None:
        assert decide(Layered(), call(path="a")).action == "ask"
        assert decide(Layered(), call(read_only=True, path="a")).action == "allow"

    def test_a_preset_follows_the_rules_of_its_own_layer_only(self) -> None:
        mine = layer("user", Rule(tool=WRITE, action="allow"), base=PRESETS["read-only"])
        assert decide(Layered.of(mine), call(path="a")).action == "allow"
        below = layer("session", Rule(tool="x__y", action="allow"))
        assert decide(Layered.of(mine, below), call("x__y")).action == "deny"


class TestStandingAnswers:
    def test_they_answer_an_ask(self) -> None:
        standing = [Rule(tool=WRITE, args={"path": "reports/**"}, action="allow")]
        asking = Layered.of(layer("user", ASK))
        decision = decide(asking, call(path="reports/a"), standing)
        assert (decision.action, decision.layer) == ("allow", "standing")
        assert decision.rule is not None
        assert "your standing rule" in decision.rule
        assert decide(asking, call(path="other/a"), standing).action == "ask"
        assert decide(Layered(), call(path="reports/a"), standing).action == "allow"

    def test_one_that_denies_wins_over_one_that_allows(self) -> None:
        standing = [ALLOW, Rule(tool=WRITE, action="deny")]
        assert decide(Layered(), call(path="a"), standing).action == "deny"

    def test_a_no_holds_whatever_the_rules_allow_later(self) -> None:
        standing = [Rule(tool=WRITE, action="deny")]
        every_time = Layered.of(layer("user", Rule(every_time=True, action="ask")))
        for policy in (Layered.of(layer("user", ALLOW)), every_time):
            assert decide(policy, call(path="a"), standing).action == "deny"

    def test_they_do_not_answer_a_question_that_is_asked_every_time(self) -> None:
        asking = Rule(tool=WRITE, every_time=True, action="ask")
        policy = Layered.of(layer("organisation", asking), layer("user", ASK))
        assert decide(policy, call(path="a"), [ALLOW]).action == "ask"
        assert decide(policy, call("x__y"), [ALLOW]).action == "allow"

    def test_they_answer_what_provenance_asks_only_if_they_say_so(self) -> None:
        assert decide(Layered.of(PRESETS["trusted"]), mail(to="a@b.c"), [ALLOW]).action == "ask"
        knowing = Rule(tool=MAIL, untrusted=True, action="allow")
        assert decide(Layered(), mail(to="a@b.c"), [knowing]).action == "allow"
        assert decide(Layered(), mail(Label(), to="a@b.c"), [knowing]).action == "ask"

    def test_one_that_is_over_answers_nothing(self) -> None:
        over = Rule(until=datetime(2026, 1, 1), action="allow")
        assert decide(Layered(), call(path="a"), [over]).action == "ask"


class TestProvenance:
    @pytest.mark.parametrize("name", ["organisation", "user", "session"])
    def test_a_rule_that_was_written_for_a_call_overrules_it(self, name: LayerName) -> None:
        meant = Rule.model_validate({"tool": MAIL, "args": {"to": "ann@b.c"}, "action": "allow"})
        policy = Layered.of(layer(name, meant))
        assert decide(policy, mail(to="ann@b.c")).action == "allow"
        asked = decide(policy, mail(to="eve@b.c"))
        assert (asked.action, asked.layer) == ("ask", "provenance")
        before = meant.model_copy(update={"untrusted": False})
        assert decide(Layered.of(layer(name, before)), mail(to="ann@b.c")).action == "ask"

    def test_a_preset_and_a_project_do_not_overrule_it(self) -> None:
        for policy in (PRESETS["trusted"], layer("project", ALLOW)):
            asked = decide(Layered.of(policy), mail(to="eve@b.c"))
            assert (asked.action, asked.layer) == ("ask", "provenance")

    def test_content_for_named_readers_needs_a_rule_that_says_private(self) -> None:
        label = Label(("hr",), untrusted=True, readers=frozenset({"b.c"}), confidential=True)
        untrusted = Rule(tool=MAIL, untrusted=True, action="allow")
        both = Rule(tool=MAIL, untrusted=True, private=True, action="allow")
        made = mail(label, to="eve@x.y")
        assert decide(Layered.of(layer("user", untrusted)), made).action == "ask"
        assert decide(Layered.of(layer("user", both)), made).action == "allow"

    def test_it_denies_where_the_user_wants_that(self) -> None:
        policy = Layered((PRESETS["trusted"],), on_untrusted="deny")
        assert decide(policy, mail(to="a@b.c"), [ALLOW]).action == "deny"


names = st.sampled_from(["*", WRITE, "files__*", MAIL, "x__y"])
paths = st.sampled_from(["**", "reports/**", "*.md", "secrets/**", "a/b"])
flags = st.sampled_from([None, True, False])
rules = st.builds(
    Rule,
    tool=names,
    args=st.one_of(st.just({}), st.builds(lambda path: {"path": path}, paths)),
    paths=st.one_of(st.just(()), st.tuples(paths)),
    read_only=flags,
    sandboxed=flags,
    untrusted=flags,
    every_time=st.booleans(),
    action=st.sampled_from(["allow", "ask", "deny"]),
)
policies = st.builds(
    lambda name, own: layer(name, *own), st.sampled_from(LAYERS), st.lists(rules, max_size=3)
)
calls = st.builds(
    lambda name, path, read_only, label: ToolCall(
        name, {"path": path}, read_only=read_only, sandboxed=True, workspace=WORKSPACE, label=label
    ),
    st.sampled_from([WRITE, MAIL, "x__y"]),
    st.sampled_from(["a", "reports/a", "secrets/a", "../x", "x.md", "a/b", "corral.toml"]),
    st.booleans(),
    st.sampled_from([Label(), UNTRUSTED]),
)


class TestForAllPolicies:
    @settings(deadline=None, max_examples=60)
    @given(st.lists(policies, max_size=4), policies, calls, st.lists(rules, max_size=3))
    def test_a_layer_never_loosens_what_another_decides(
        self, others: list[Policy], more: Policy, made: ToolCall, standing: list[Rule]
    ) -> None:
        for answers in ([], standing):
            alone = [decide(Layered.of(one), made, answers) for one in others]
            together = decide(Layered.of(*others, more), made, answers)
            for one, decision in zip(others, alone, strict=True):
                if decision.layer == one.layer or decision.action == "deny":  # by a rule
                    assert STRICTNESS[together.action] >= STRICTNESS[decision.action]

    @settings(deadline=None, max_examples=60)
    @given(st.lists(policies, max_size=4), rules, calls, st.lists(rules, max_size=3))
    def test_adding_a_rule_below_never_loosens_a_decision_of_a_rule(
        self, others: list[Policy], rule: Rule, made: ToolCall, standing: list[Rule]
    ) -> None:
        before = decide(Layered.of(*others), made)
        after = decide(Layered.of(*others, layer("session", rule)), made)
        if before.layer in (*LAYERS, "built in"):
            assert STRICTNESS[after.action] >= STRICTNESS[before.action]
        denied = before.action == "deny"
        assert not denied or decide(Layered.of(*others), made, standing).action == "deny"

    @settings(deadline=None, max_examples=60)
    @given(st.lists(policies, max_size=4), calls, st.lists(rules, max_size=4))
    def test_a_deny_is_never_undone_by_a_standing_answer(
        self, others: list[Policy], made: ToolCall, standing: list[Rule]
    ) -> None:
        answers = [*standing, ALLOW, always_rule(made), Rule(untrusted=True, action="allow")]
        policy = Layered.of(*others, layer("organisation", Rule(tool=made.name, action="deny")))
        assert decide(policy, made, answers).action == "deny"

    @settings(deadline=None, max_examples=60)
    @given(st.lists(policies, max_size=4), calls, st.lists(rules, max_size=3))
    def test_decisions_are_deterministic_and_have_a_reason(
        self, others: list[Policy], made: ToolCall, standing: list[Rule]
    ) -> None:
        first = decide(Layered.of(*others), made, standing)
        assert first == decide(Layered.of(*others), made, standing)
        assert first.reason

    @settings(deadline=None, max_examples=60)
    @given(st.lists(policies, max_size=4), calls)
    def test_what_a_server_says_of_itself_loosens_nothing_without_trust(
        self, others: list[Policy], made: ToolCall
    ) -> None:
        """Only a hint that a trusted server gives is in the facts, so that facts are the worst."""
        from corral.runtime.call_facts import call_of_spec
        from corral.tools.contract import ToolSpec

        server, _, tool = made.name.partition("__")
        honest = ToolSpec(server, tool, "", {})
        lying = ToolSpec(
            server,
            tool,
            "",
            {},
            read_only=True,
            destructive=False,
            idempotent=True,
            open_world=False,
        )
        policy = Layered.of(*others)
        decisions = [
            decide(policy, call_of_spec(spec, made.args, WORKSPACE, ())) for spec in (honest, lying)
        ]
        assert decisions[0] == decisions[1]


class TestManyRules:
    def test_the_first_of_many_rules_is_found_as_one_by_one(self) -> None:
        made = [Rule(tool=f"s{n % 7}__t{n % 11}", action="deny") for n in range(200)]
        made[50] = Rule(server="s1", action="ask")
        made[60] = Rule(tool="s*__t4", action="allow")
        policy = Layered.of(layer("user", *made))
        for name in ("s1__t4", "s2__t4", "s6__t10", "s1__zzz", "none__x"):
            decision = decide(policy, call(name))
            slow = next(
                (
                    number
                    for number, rule in enumerate(made, start=1)
                    if decide(Layered.of(layer("user", rule)), call(name)).layer == "user"
                ),
                None,
            )
            assert decision.rule == (None if slow is None else f"rule {slow} of user.toml")
