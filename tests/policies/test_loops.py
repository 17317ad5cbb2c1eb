from __future__ import annotations

import pytest

from corral.policies.loops import CallHistory, CallRecord, stuck


def history(text: str) -> list[CallRecord]:
    """``A1 B2``: tool and arguments by a letter, the result by a digit."""
    return [CallRecord(word[0], f"args-{word[0]}", word[1:]) for word in text.split()]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        ("", False),
        ("A1 A1", False),
        ("A1 A1 A1", True),
        ("A1 A2 A3 A4", False),
        ("A1 A1 A2", False),
        ("A1 A2 A2 A2", True),
        ("A1 A2 A1 A2 A1 A2", False),
        ("A1 B1 A1 B1 A1", True),
        ("A1 B1 A1 B1 A1 B1", True),
        ("A1 B1 C1 A1 B1 C1 A1 B1 C1", True),
        ("A1 B1 A1 B2 A1", False),
        ("A1 B1 A1 C1 A1", False),
        ("B1 A1 A1 A1", True),
        ("A1 A1 A1 B1", False),
        ("B1 B1 B1", False),
    ],
)
def test_a_call_is_stuck_when_nothing_moves(calls: str, expected: bool) -> None:
    assert (stuck(history(calls), "A", "args-A", 3) is not None) is expected


def test_other_arguments_are_another_call() -> None:
    calls = [CallRecord("A", f"args-{number}", "1") for number in range(9)]
    assert stuck(calls, "A", "args-8", 3) is None


def test_the_reason_names_the_call_and_the_limit() -> None:
    reason = stuck(history("A1 A1"), "A", "args-A", 2)
    assert reason is not None
    assert reason.startswith("A was called 2 times")
    assert "max_repeats" in reason
    assert "once" in (stuck(history("A1"), "A", "args-A", 1) or "")


@pytest.mark.parametrize("calls", ["A1 A1 A1", "A1 B1 A1 B1 A1 B1", "A1 B1 A1 C1 A1", ""])
def test_a_history_that_counts_along_gives_the_same_verdict(calls: str) -> None:
    counted = CallHistory(history(calls)[:1])
    for record in history(calls)[1:]:
        counted.append(record)
    assert list(counted) == history(calls)
    assert stuck(counted, "A", "args-A", 3) == stuck(history(calls), "A", "args-A", 3)
