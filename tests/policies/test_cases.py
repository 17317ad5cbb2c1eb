"""Tables of cases: calls with the facts that are said, and what differs from what is expected."""

from __future__ import annotations

import pytest

from corral.errors import ConfigError
from corral.policies.layers import Layered
from corral.policies.writing.cases import KnownTool, parse_cases, run_cases
from corral.policies.writing.parse import parse_policy

POLICY = """\
[[rules]]
server = "mail"
untrusted = true
action = "deny"
reason = "not after what was read"

[[rules]]
server = "mail"
agent = "clerk"
depth = {min = 1}
after = "09:00"
before = "17:00"
days = ["mon", "tue", "wed", "thu", "fri"]
from_user = ["to"]
action = "allow"
"""

CASE = """\
[[cases]]
tool = "mail__send"
args = {to = "ann@example.com"}
agent = "clerk"
depth = 1
said = ["Write to ann@example.com."]
at = 2026-11-20T10:00:00
expect = "allow"
rule = "rule 2 of mail.toml"
"""


def differences(text: str) -> list[str]:
    policy = Layered.of(parse_policy(POLICY, "/etc/mail.toml"))
    table = parse_cases(text, "cases.toml")
    found = run_cases(table, policy, lambda _: KnownTool(), "/w")
    return [f"{outcome.source}: {outcome.differs}" for outcome in found if outcome.differs]


def test_a_case_that_is_as_expected_is_not_told() -> None:
    assert differences(CASE) == []
    assert differences(CASE.replace("rule 2 of mail.toml", "mail.toml, line 7")) == []


@pytest.mark.parametrize(
    ("before", "after", "action"),
    [
        ("depth = 1", "depth = 0", "ask"),
        ('"clerk"', '"assistant"', "ask"),
        ("T10:00", "T17:00", "ask"),
        ("2026-11-20", "2026-11-22", "ask"),
        ("Write to ann", "Write to Joanna", "ask"),
        ("depth = 1", "depth = 1\nuntrusted = true", "deny"),
    ],
)
def test_each_fact_counts(before: str, after: str, action: str) -> None:
    (told,) = differences(CASE.replace(before, after))
    assert told.startswith(f"cases.toml, line 1: allow was expected, but it is {action}")


def test_the_rule_that_decides_can_be_expected() -> None:
    (told,) = differences(CASE.replace("rule 2 of", "rule 1 of"))
    assert "rule 1 of mail.toml was expected to decide" in told
    assert "rule 2 of mail.toml (/etc/mail.toml, line 7) did" in told


@pytest.mark.parametrize(
    ("text", "line", "what", "hint"),
    [
        ("[[case]]\n", 1, "'case' means nothing", 'Did you mean "cases"?'),
        ("policy = 5\n", 1, "policy = 5", "preset"),
        ("[[cases]]\ntool = 'x__y'\n", 1, "case 1 has no expect", '"allow"'),
        ("[[cases]]\nexpect = 'ask'\n", 1, "case 1 has no tool", "Add tool"),
        ("[[cases]]\ntool = 'x'\nexpect = 'yes'\n", 3, "expect", '"allow"'),
        ("[[cases]]\ntool = 'x'\nexpect = 'ask'\nagnet = 'a'\n", 4, "'agnet'", '"agent"'),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, line: int, what: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_cases(text, "cases.toml")
    assert caught.value.message.startswith(f"cases.toml, line {line}: ")
    assert what in caught.value.message
    assert hint in caught.value.hint
