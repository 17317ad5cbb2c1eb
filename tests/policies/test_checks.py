"""What a check is, and what follows from its verdict. Making one is tested where runs are."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from corral.policies.checks import Check, Finding, broken, check, follows, strictest


def made(**fields: Any) -> Check:
    return Check(**{"name": "c", "on": "output", "pattern": "x", **fields})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pattern": None}, "needs one of pattern, require and judge, and has none"),
        ({"judge": "It is kind."}, "has pattern and judge"),
        ({"pattern": "("}, "is no regular expression"),
        ({"on": "input", "on_fail": "reask"}, "cannot ask again about input"),
        ({"on": "tool_result", "on_fail": "reask"}, "use block, fix or flag"),
        (
            {"pattern": None, "require": "y", "on_fail": "fix"},
            "needs a pattern with replace to fix",
        ),
        ({"on_fail": "fix"}, "replace belongs to a pattern"),
        ({"replace": "y"}, "replace belongs to a pattern"),
        ({"on": "everything"}, "'input', 'output', 'tool_call' or 'tool_result'"),
        ({"retries": 0}, "greater than or equal to 1"),
        ({"patern": "y"}, "Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        made(**fields)


def test_a_function_makes_a_check() -> None:
    def polite(text: str) -> str | None:
        return None if "please" in text else "say please"

    one = check(polite, on="output", on_fail="reask", retries=3)
    assert (one.name, one.code, one.retries, one.function) == ("polite", "polite", 3, polite)
    stored = Check.model_validate(one.model_dump(mode="json"))
    assert stored.function is None
    assert stored.code == "polite"


@pytest.mark.parametrize("verdict", [None, True])
def test_a_text_may_pass(verdict: Any) -> None:
    assert follows(made(), verdict) is None


@pytest.mark.parametrize(
    ("fields", "verdict", "did", "reason"),
    [
        ({}, False, "block", "it holds what must not be there"),
        ({"pattern": None, "require": "y"}, False, "block", "it lacks what must be there"),
        ({"reason": "no x"}, False, "block", "no x"),
        ({"on_fail": "flag"}, "it is rude", "flag", "it is rude"),
        ({"on_fail": "reask"}, "", "reask", "it holds what must not be there"),
        ({"on_fail": "fix", "replace": "y"}, False, "block", "cannot be mended"),
    ],
)
def test_what_follows(fields: dict[str, Any], verdict: Any, did: str, reason: str) -> None:
    finding = follows(made(**fields), verdict)
    assert finding is not None
    assert finding.did == did
    assert reason in finding.reason
    assert finding.text is None


def test_a_fix_has_the_new_text_even_if_that_is_empty() -> None:
    finding = follows(made(on_fail="fix", replace=""), "")
    assert finding is not None
    assert (finding.did, finding.text) == ("fix", "")


def test_a_check_that_breaks_refuses_unless_it_only_flags() -> None:
    assert broken(made(on_fail="reask"), ValueError("oh")).did == "block"
    assert broken(made(on_fail="flag"), ValueError("oh")).did == "flag"


def test_block_is_stricter_than_reask() -> None:
    findings = [Finding(made(), "a", "flag"), Finding(made(), "b", "reask")]
    assert strictest(findings[:1]) is None
    assert strictest([*findings, Finding(made(), "c", "block")]) == Finding(made(), "c", "block")


def test_tools_are_named_or_patterns() -> None:
    one = made(on="tool_call", tools=("mail__*", "files__read_file"))
    assert one.concerns("tool_call", "mail__send")
    assert one.concerns("tool_call", "files__read_file")
    assert not one.concerns("tool_call", "files__write_file")
    assert not one.concerns("tool_result", "mail__send")
