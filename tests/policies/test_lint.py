"""Lint: each kind of problem is found with its place, and nothing in a policy that is right."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.policies.facts import ToolCall
from corral.policies.layers import Layered
from corral.policies.matching import matches
from corral.policies.presets import PRESETS
from corral.policies.provenance.labels import Label
from corral.policies.rules import LayerName, Rule
from corral.policies.writing.coverage import covers
from corral.policies.writing.lint import Known, Problem, lint
from corral.policies.writing.parse import parse_policy

KNOWN = Known(
    servers={"files": frozenset({"write_file", "read_file"}), "mail": None},
    agents=frozenset({"assistant", "writer"}),
    now=datetime(2026, 11, 22, 12, tzinfo=UTC),
)


def found(*texts: str, layer: LayerName = "user") -> list[Problem]:
    """What lint finds in policies, the first of which is the organisation's if there are two."""
    names: tuple[LayerName, ...] = ("organisation", layer) if len(texts) > 1 else (layer,)
    policies = [
        parse_policy(text, f"/etc/{name}.toml", layer=name)
        for name, text in zip(names, texts, strict=True)
    ]
    return lint(Layered.of(*policies), KNOWN)


def rule(**keys: str) -> str:
    return "[[rules]]\n" + "".join(f"{name} = {value}\n" for name, value in keys.items())


ALLOW, ASK, DENY = '"allow"', '"ask"', '"deny"'
WRITE = '"files__write_file"'


@pytest.mark.parametrize(
    ("text", "kind", "line", "message", "hint"),
    [
        (rule(tool='"write_file"', action=ASK), "never", 1, "no tool is called", "*__write_file"),
        (
            rule(server='"mail"', tool=WRITE, action=ASK),
            "never",
            1,
            'not a tool of "mail"',
            "Correct the server",
        ),
        (rule(args="{n = {min = 5, max = 1}}", action=ASK), "never", 1, "min 5", "Correct"),
        (rule(args='{path = "../x"}', action=ALLOW), "never", 1, "outside", "Correct"),
        (rule(depth="{min = 3, max = 1}", action=ASK), "never", 1, "depth ends", "Swap"),
        (rule(until="2026-01-01", action=ASK), "never", 1, "is past", "Remove it"),
        (
            rule(exact_args="true", from_user='["to"]', action=ALLOW),
            "never",
            1,
            "no room for to",
            "args",
        ),
        (
            rule(tool='"files__*"', action=DENY) + rule(tool=WRITE, action=ALLOW),
            "shadowed",
            4,
            "never decides: rule 1 of user.toml (line 1)",
            "Move it before",
        ),
        (
            rule(tool='"files__*"', args='{path = "reports/**"}', action=ALLOW)
            + rule(tool=WRITE, args='{path = "reports/sub/**"}', action=DENY),
            "shadowed",
            5,
            "hardly ever decides: rule 1 of user.toml (line 1)",
            "Move it before",
        ),
        (
            rule(tool='"files__*"', action=DENY) + rule(tool=WRITE, action=DENY),
            "shadowed",
            4,
            "adds nothing",
            "Remove it",
        ),
        (
            rule(tool=WRITE, action=ASK) + rule(tool=WRITE, action=ASK),
            "duplicate",
            4,
            "is the same as rule 1",
            "Remove one",
        ),
        (
            rule(server='"files"', tool='"write_file"', action=ASK) + rule(tool=WRITE, action=DENY),
            "contradiction",
            5,
            "says deny for the same calls",
            "Keep the one",
        ),
        (rule(every_time="true", action=DENY), "pointless", 1, "every_time", "Remove every_time"),
        (rule(server='"file"', action=ASK), "unknown", 1, '"file"', 'Did you mean "files"?'),
        (rule(tool='"files__wirte_file"', action=ASK), "unknown", 1, "wirte", '"write_file"'),
        (rule(agent='"wirter"', action=ASK), "unknown", 1, "wirter", '"writer"'),
        (rule(agent='"zzz"', action=ASK), "unknown", 1, "zzz", "assistant, writer"),
    ],
)
def test_a_problem_has_its_place_and_a_remedy(
    text: str, kind: str, line: int, message: str, hint: str
) -> None:
    (problem,) = found(text)
    assert (problem.kind, problem.source) == (kind, f"/etc/user.toml, line {line}")
    assert message in problem.message
    assert hint in problem.hint


def test_an_allow_below_a_deny_is_pointless() -> None:
    (problem,) = found(rule(tool='"mail__*"', action=DENY), rule(tool='"mail__send"', action=ALLOW))
    assert (problem.kind, problem.source) == ("pointless", "/etc/user.toml, line 1")
    assert "organisation says deny" in problem.message
    assert "/etc/organisation.toml, line 1" in problem.message


def test_an_allow_above_a_deny_of_the_same_layer_may_hold() -> None:
    above = rule(tool='"mail__send"', action=ALLOW) + rule(tool='"mail__*"', action=DENY)
    assert found(above, rule(tool='"mail__send"', action=ALLOW)) == []


@pytest.mark.parametrize(
    "text",
    [
        rule(tool=WRITE, args='{path = "a/**"}', action=ALLOW) + rule(tool=WRITE, action=DENY),
        rule(agent='"writer"', action=ASK) + rule(agent='"assistant"', action=DENY),
        rule(depth="1", action=ASK) + rule(action=ASK),
        rule(until="2027-01-01", action=ASK) + rule(until="2027-06-01", action=DENY),
        rule(untrusted="true", can='["send"]', action=DENY) + rule(can='["send"]', action=ASK),
        rule(tool='"mail__anything"', action=ASK),
        rule(days='["mon"]', after='"09:00"', action=ASK) + rule(days='["tue"]', action=ASK),
    ],
)
def test_what_is_right_has_no_problem(text: str) -> None:
    assert found(text) == []


def test_the_presets_have_no_problem() -> None:
    assert lint(Layered.of(*PRESETS.values()), Known()) == []


names = st.sampled_from(["*", "files__*", "files__write_file", "f?les__*", "*__write_file"])
texts = st.sampled_from(["*", "a*", "a/**", "a", "**", "a/b"])
flags = st.sampled_from([None, True])
rules = st.builds(
    Rule,
    server=st.sampled_from([None, "files", "f*"]),
    tool=names,
    args=st.dictionaries(st.sampled_from(["path", "text"]), texts, max_size=2),
    paths=st.one_of(st.just(()), st.tuples(texts)),
    read_only=flags,
    within_workspace=st.booleans(),
    exact_args=st.booleans(),
    depth=st.sampled_from([None, 0, 1, {"min": 1}]),
    untrusted=flags,
    can=st.sampled_from([(), ("change",), ("change", "secret")]),
    after=st.sampled_from([None, "09:00"]),
    until=st.sampled_from([None, "2026-11-01", "2027-01-01"]),
    days=st.sampled_from([(), ("sun",), ("mon", "sun")]),
    action=st.sampled_from(["allow", "deny"]),
)
calls = st.builds(
    lambda path, text, depth, untrusted, hour: ToolCall(
        "files__write_file",
        {"path": path, **({"text": text} if text else {})},
        read_only=False,
        sandboxed=True,
        workspace="/w",
        agents=("a",) * (depth + 1),
        label=Label(untrusted=untrusted),
        at=datetime(2026, 11, 22, hour, tzinfo=UTC),
    ),
    st.sampled_from(["a", "a/b", "a/b/c", "A", "../a", "b"]),
    st.sampled_from(["", "a", "ab", "b"]),
    st.integers(0, 2),
    st.booleans(),
    st.sampled_from([8, 12]),
)


@settings(deadline=None)
@given(rules, rules, st.lists(calls, min_size=5, max_size=20))
def test_a_rule_that_covers_another_matches_all_of_its_calls(
    wider: Rule, narrower: Rule, made: list[ToolCall]
) -> None:
    assert covers(wider, wider)
    if covers(wider, narrower):
        for call in made:
            assert matches(wider, call) or not matches(narrower, call)
