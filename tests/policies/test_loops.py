"""Loops are found, and waiting, paging and ordinary work are left alone."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bench._trajectories import LOOPS, Trajectory, corpus
from bench.stuck import watch
from corral.policies.loops import Call, History, LoopSettings, Patience, Verdict

CORPUS = corpus()
PATIENCE = Patience(repeats=3)


def after(calls: str, patience: Patience = PATIENCE) -> Verdict | None:
    """What is said of a call ``A`` after calls such as ``A1 B2``: a call, and its result."""
    history = History()
    for word in calls.split():
        history.made(Call(word[0], {}), f"result {word[1:]}")
    return history.before_call(Call("A", {}), patience)


@pytest.mark.parametrize(
    ("calls", "kind"),
    [
        ("", None),
        ("A1 A1", None),
        ("A1 A1 A1", "repeat"),
        ("A1 A2 A3 A4", None),
        ("A1 A1 A2", None),
        ("A1 A2 A2 A2", "repeat"),
        ("A1 A2 A1 A2 A1 A2", None),
        ("A1 B1 A1 B1 A1", None),
        ("A1 B1 A1 B1 A1 B1", "cycle"),
        ("A1 B1 C1 A1 B1 C1 A1 B1 C1", "cycle"),
        ("A1 B1 C1 A1 C1 B1 A1 B1 C1 A1", "repeat"),
        ("A1 B1 A1 B2 A1", None),
        ("A1 B1 A1 C1 A1", None),
        ("B1 A1 A1 A1", "repeat"),
        ("A1 A1 A1 B1", None),
        ("B1 B1 B1", None),
    ],
)
def test_calls_are_a_loop_when_nothing_moves(calls: str, kind: str | None) -> None:
    verdict = after(calls)
    assert (verdict and verdict.kind) == kind


def test_a_verdict_says_what_was_seen() -> None:
    repeat, cycle = after("A1 A1 A1"), after("A1 B1 A1 B1 A1 B1")
    assert repeat is not None
    assert cycle is not None
    assert repeat.seen.startswith("A was called 3 times with the same arguments")
    assert cycle.seen.startswith("the same 2 calls (A, B) were made in turn 3 times")


@given(
    before=st.lists(st.tuples(st.sampled_from("BCDE"), st.integers()), max_size=40),
    count=st.integers(0, 8),
    repeats=st.integers(1, 6),
)
def test_a_call_is_accepted_as_often_as_was_said(
    before: list[tuple[str, int]], count: int, repeats: int
) -> None:
    history = History()
    for number, (tool, result) in enumerate(before):
        history.made(Call(tool, {"item": number}), f"{tool}: {result}")
    for _ in range(count):
        history.made(Call("A", {"path": "x"}), "the same text")
    verdict = history.before_call(Call("A", {"path": "x"}), Patience(repeats))
    assert (verdict is not None) is (count >= repeats)


@pytest.mark.slow
@given(st.lists(st.text(max_size=30), min_size=1, max_size=60, unique=True))
def test_calls_that_bring_something_new_are_never_a_loop(texts: list[str]) -> None:
    history = History()
    for text in texts:
        call = Call("files__read", {"path": f"/{text}"})
        assert history.before_call(call, PATIENCE) is None
        history.made(call, f"These are the contents of {text!r}, as they were stored here.")
        assert history.before_answer(PATIENCE) is None


@given(
    st.lists(st.tuples(st.sampled_from("AB"), st.text(max_size=400), st.booleans()), max_size=40)
)
def test_no_text_of_a_tool_or_a_model_breaks_the_watch(
    steps: list[tuple[str, str, bool]],
) -> None:
    history = History()
    for tool, text, is_error in steps:
        history.said(text)
        history.made(Call(tool, {"text": text}), text, is_error=is_error)
        history.before_call(Call(tool, {"text": text}), PATIENCE)
        history.before_answer(PATIENCE)


@pytest.mark.slow
def test_a_long_run_takes_no_more_memory_than_a_run() -> None:
    history, sizes = History(), []
    for number in range(24_000):
        history.said(f"I read number {number} now, and then the next one.")
        history.made(Call("files__read", {"path": f"{number}.txt"}), f"text {number} of them")
        if number in (12_000, 23_999):
            sizes.append(len(pickle.dumps(history)))
    assert sizes[1] < 1.2 * sizes[0]


@pytest.mark.parametrize("pending", ['{"status": "running"}', "Deployment in progress", "42 %"])
def test_polling_has_much_patience_and_not_for_ever(pending: str) -> None:
    history, call = History(), Call("jobs__status", {"id": 1})
    for _ in range(100):
        assert history.before_call(call, PATIENCE) is None
        history.made(call, pending)
    assert history.before_call(call, PATIENCE) is not None


@pytest.mark.parametrize(("pattern", "is_loop"), [("mail__*", False), ("jobs__*", True)])
def test_a_tool_that_is_named_for_polling_may_be_asked_for_ever(
    pattern: str, is_loop: bool
) -> None:
    patience = Patience(3, LoopSettings(polling=(pattern,)))
    history, call = History(), Call("mail__list", {})
    for _ in range(150):
        history.made(call, "[]")
    assert (history.before_call(call, patience) is not None) is is_loop


def test_waiting_in_between_is_polling_whatever_the_result_says() -> None:
    history, call = History(), Call("mail__list", {})
    for _ in range(30):
        history.made(call, "one mail")
        history.made(Call("time__sleep", {"seconds": 9}), "ok")
    assert history.before_call(call, PATIENCE) is None


def test_a_model_that_repeats_itself_may_say_it_as_often_again_once_it_was_told() -> None:
    history = History()
    alarms = []
    for number in range(1, 10):
        history.said("I am going to look at this now.")
        if history.before_answer(PATIENCE) is not None:
            alarms.append(number)
            history.told()
    assert alarms == [3, 6, 9]
    assert history.alarms == 3


def test_alarms_are_forgotten_when_things_go_well_for_a_while() -> None:
    history = History()
    history.alarmed((1, "tools[0]"))
    for number in range(5):
        assert history.alarms == 1
        history.made(Call("files__read", {"path": f"{number}"}), f"text {number}")
    assert history.alarms == 0


def test_branches_of_one_step_are_one_alarm_and_calls_of_one_branch_are_several() -> None:
    history = History()
    for branch in ("tools[0]", "tools[1]", "tools[2]"):
        history.alarmed((4, branch))
    assert history.alarms == 1
    history.alarmed((4, "tools[2]"))
    assert history.alarms == 2


def test_who_knows_of_a_refused_call_is_not_told_again_before_the_answer() -> None:
    history = History()
    for _ in range(3):
        history.said("I will call it once more.")
    assert history.before_answer(PATIENCE) is not None
    history.alarmed((3, "tools[0]"))
    assert history.before_answer(PATIENCE) is None


@pytest.mark.parametrize(("alarm", "measure"), [(1, "nudge"), (2, "ask"), (3, "stop"), (9, "stop")])
def test_first_a_nudge_then_an_ask_then_a_stop(alarm: int, measure: str) -> None:
    assert LoopSettings().measure(alarm) == measure


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValidationError, match="nobody would be asked"):
        LoopSettings(ask_after=4, stop_after=3)
    assert LoopSettings(ask_after=3, stop_after=3).measure(3) == "stop"


def test_the_corpus_is_large_and_every_trajectory_has_a_name() -> None:
    assert sum(one.is_loop for one in CORPUS) >= 60
    assert sum(not one.is_loop for one in CORPUS) >= 120
    assert len({one.name for one in CORPUS}) == len(CORPUS)
    assert {one.kind for one in CORPUS if one.unseen} >= {*LOOPS}


@pytest.mark.parametrize(
    "trajectory", [one for one in CORPUS if not one.is_loop], ids=lambda one: one.name
)
def test_nothing_harmless_is_stopped_or_asked_about(trajectory: Trajectory) -> None:
    watched = watch(trajectory)
    assert watched.measure in (None, "nudge"), watched.verdict


@pytest.mark.parametrize("unseen", [False, True])
def test_loops_are_found_and_hardly_anything_else(unseen: bool) -> None:
    part = [one for one in CORPUS if one.unseen is unseen]
    alarms = [one for one in part if watch(one).verdict is not None]
    loops = [one for one in part if one.is_loop]
    found = [one for one in alarms if one.is_loop]
    assert len(found) >= 0.95 * len(loops)
    assert len(found) >= 0.95 * len(alarms)
