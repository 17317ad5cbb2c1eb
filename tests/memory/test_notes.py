"""Notes in a thread that grows: what is added to is what would be made of the whole anew."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from corral.jsontypes import JsonObject
from corral.memory.notes import Notes, forgetting, is_notes, note
from corral.memory.store import Memory


def fact(number: int) -> Memory:
    return Memory(str(number), f"Fact {number}.", "agent", "thread", "run", "now", "now")


def prompt(number: int) -> HumanMessage:
    return HumanMessage(f"Prompt {number}.", id=f"p{number}")


def answer(number: int) -> AIMessage:
    return AIMessage(f"Answer {number}.", id=f"a{number}")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("prompt"), st.lists(st.integers(0, 4), max_size=3)),
        st.tuples(st.just("answer"), st.none()),
        st.tuples(st.just("forget"), st.integers(0, 4)),
        st.tuples(st.just("cover"), st.integers(0, 12)),
        st.tuples(st.just("lose"), st.integers(0, 3)),
    ),
    max_size=30,
)


@given(STEPS)
def test_a_thread_that_grows_shows_what_one_does_that_is_looked_at_anew(steps: Any) -> None:
    notes, covered = Notes(), 0
    log: list[JsonObject] = []
    messages: list[BaseMessage] = []
    for number, (what, of) in enumerate(steps):
        match what:
            case "prompt":
                messages = [*messages, prompt(number)]
                log = [*log, note(log, f"p{number}", [fact(one) for one in of])]
            case "answer":
                messages = [*messages, answer(number)]
            case "forget":
                log = [*log, forgetting([str(of)])]
            case "cover":
                covered = min(of, len(messages))
            case "lose":
                messages = messages[: len(messages) - of]
        assert notes.among(messages, log, covered) == Notes().among(messages, log, covered)


def test_a_fact_is_shown_once_while_it_is_in_view_and_again_behind_a_summary() -> None:
    thread = [prompt(1), answer(1), prompt(2), answer(2)]
    log = [note([], "p1", [fact(1)])]
    log.append(note(log, "p2", [fact(1), fact(2)]))

    def shown(covered: int) -> list[str]:
        found = Notes().among(thread, log, covered).messages
        return [str(message.text) for message in found if is_notes(message)]

    first, second = shown(0)
    assert ("Fact 1." in first, "Fact 1." in second, "Fact 2." in second) == (True, False, True)
    assert "Fact 1." in shown(2)[-1]
