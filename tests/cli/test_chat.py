"""The REPL in depth; ``test_conversation.py`` has what it does every day."""

from __future__ import annotations

import signal
import stat
from collections.abc import AsyncIterator

import pytest

from corral.agents.options import RunOptions
from corral.cli.chat.command import TINY
from corral.cli.chat.session import Choices, Session
from corral.runtime.config import load_settings
from corral.runtime.models.contract import Chunk, ModelRequest
from corral.runtime.models.scripted import ScriptedModel
from tests.cli.place import CIRCLES, Place, chatting, piped

pytestmark = pytest.mark.slow

QUESTION = "for later"


def test_a_rule_is_shown_before_it_is_stored(place: Place) -> None:
    with chatting(place, "--model", place.model("write")) as chat:
        chat.type("Write it down for good")
        chat.see("[a]lways", QUESTION)
        chat.type("a")
        chat.see("1  allow files__write_file", "2  allow files__write_file", "Which calls?")
        chat.type("2")
        chat.see("Where?")
        chat.type("t 7d")
        chat.see("in this", "until", "would have matched", "Store it?")
        chat.type("y")
        chat.see("All is written.")
        (place.workspace / "notes.txt").unlink()
        chat.type("And once more")
        shown = chat.see("All is written.")
        assert "[a]lways" not in shown
        assert (place.workspace / "notes.txt").read_text() == "one\ntwo\n"

        chat.see("»")
        assert "corral chat --thread t-" in chat.leave()
    history = place.home / "history"
    assert "+Write it down for good" in history.read_text()
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_an_answer_from_another_terminal_is_noticed(place: Place) -> None:
    with chatting(place, "--model", place.model("write")) as chat:
        chat.see("»")
        chat.type("Write it down")
        chat.see("[y]es", QUESTION)
        denied = place.corral("deny", "last", "--reason", "not from here")
        assert denied.code == 0
        assert denied.err.endswith("it goes on in the terminal that waits for the answer\n")
        chat.see("denied by user", "not from here", "All is written.")


def test_a_rule_answers_the_questions_after_it(place: Place) -> None:
    calls = "".join(
        f"  - {{name: files__write_file, args: {{path: notes/{name}, content: x}}}}\n"
        for name in ("a.txt", "b.txt")
    )
    (place.scripts / "both.yaml").write_text(f"- tool_calls:\n{calls}- {{text: Done.}}\n")
    with chatting(place, "--model", place.model("both")) as chat:
        chat.see("»")
        chat.type("Write both")
        chat.see("(1 of 2)", "notes/a.txt", QUESTION)
        chat.type("a")
        chat.see("Which calls?")
        chat.type("2")
        chat.see("Where?")
        chat.type("t 7d")
        chat.see("in this", "until", "Store it?")
        chat.type("y")
        chat.see("notes/b.txt", "approved by rule:s-", "Done.")
    assert (place.workspace / "notes" / "b.txt").read_text() == "x"


def test_a_limit_is_raised_by_a_number(place: Place) -> None:
    (place.workspace / "corral.toml").write_text("[budgets.run]\nmodel_calls = 1\n")
    with chatting(place, "--model", place.model("read")) as chat:
        chat.see("»")
        chat.type("Count them")
        chat.see("a yes raises the limit to: 3 (model calls)", "Raise it?", QUESTION)
        chat.type("e")
        chat.see("new limit: ")
        chat.type("\x01\x0blots")
        chat.see("is no number", QUESTION)
        chat.type("e")
        chat.see("new limit: ")
        chat.type("\x01\x0b1")
        chat.see("not above 1", QUESTION)
        chat.type("e")
        chat.see("new limit: ")
        chat.type("\x01\x0b5")
        chat.see("There are two orders.")
        chat.type("And again")
        chat.see("Raise it?", QUESTION)
        chat.type("n")
        chat.see("it was not raised", "stopped:")


def test_an_agent_in_circles_is_asked_about(place: Place) -> None:
    (place.scripts / "circles.yaml").write_text(CIRCLES)
    with chatting(place, "--model", place.model("circles")) as chat:
        chat.see("»")
        chat.type("Look")
        chat.see("round in circles", "path: orders.csv", "why asked:", "Let it go on?", QUESTION)
        chat.type("n look elsewhere")
        chat.see("Nothing new.")


def test_ctrl_c_stops_the_step_and_not_the_program(place: Place) -> None:
    with chatting(place, "--model", place.model("slow")) as chat:
        chat.see("»")
        chat.type("Tell me a long story")
        chat.see("word word word")
        chat.child.sendintr()
        chat.see("stopped", "»")
        chat.type(f"/model {place.model('hello')}")
        chat.see("model: scripted")
        chat.type("Hi")
        chat.see("Hello there, friend.", "»")
        chat.child.sendintr()
        chat.see("Ctrl-D or /quit leaves", "»")
        chat.leave()
    statuses = [run["status"] for run in place.corral("runs", "--json").lines]
    assert statuses == ["completed", "stopped"]


def test_a_question_survives_a_killed_repl(place: Place) -> None:
    with chatting(place, "--model", place.model("write")) as chat:
        chat.see("»")
        chat.type("Write it down")
        chat.see(QUESTION)
        chat.child.kill(signal.SIGKILL)
        chat.child.wait()
    assert list((place.home / "run").glob("asks-*"))
    with chatting(place, "--continue", "--model", place.model("hello")) as chat:
        chat.see("Write it down", "files__write_file", "+two", QUESTION)
        chat.type("q")
        chat.see("Left for later", "corral approve", "»")
        chat.type("/approvals")
        chat.see("+two", QUESTION)
        chat.type("y")
        chat.see("All is written.", "»")
        chat.type("And now?")
        chat.see("Hello there, friend.", "»")
        chat.leave()
    assert (place.workspace / "notes.txt").read_text() == "one\ntwo\n"
    (thread,) = place.corral("threads", "--json").lines
    assert thread["runs"] == 2
    assert list((place.home / "run").glob("asks-*")) == []


def test_several_lines_make_one_prompt(place: Place) -> None:
    with chatting(place, "--model", place.model("hello")) as chat:
        chat.see("»")
        chat.child.send("first\x1b\r")
        chat.child.send("second\\\r")
        chat.type("third")
        chat.see("Hello there, friend.", "»")
        chat.leave()
    (run,) = place.corral("runs", "--json").lines
    assert run["prompt"] == "first\nsecond\nthird"


def test_the_bundled_model_is_introduced_as_what_it_is(place: Place) -> None:
    with chatting(place) as chat:
        chat.see("model local", "very small model", "--model M", "»")
        chat.leave()
    assert max(map(len, TINY.splitlines())) < 80, "a word would be broken in a usual terminal"


def test_a_long_change_can_be_seen_whole_before_it_is_allowed(place: Place) -> None:
    done = piped(place, "Write\nv\ny\n", "--model", place.model("long"))
    assert done.returncode == 0, done.stderr
    short, whole = done.stdout.split("[v]iew all of it")[:2]
    assert "more lines" in short
    assert "+line 100" not in short
    assert "more lines" not in whole
    assert "+line 100" in whole
    assert len((place.workspace / "long.txt").read_text().splitlines()) == 200


def test_a_pipe_that_ends_at_a_question_leaves_it_for_later(place: Place) -> None:
    done = piped(place, "Write it down\n", "--model", place.model("write"))
    assert done.returncode == 0, done.stderr
    assert "Left for later" in done.stdout
    other = piped(place, "Hello\n", "--model", place.model("hello"))
    assert "questions wait in t-" in other.stdout
    (approval,) = place.corral("approvals", "--json").lines
    approved = place.corral("approve", approval["id"])
    assert approved.err.endswith(f"go on with: corral resume {approval['run']}\n")
    assert list((place.home / "run").glob("asks-*")) == []
    back = piped(place, "", "--thread", approval["thread"][:6])
    assert "All is written." in back.stdout
    assert (place.workspace / "notes.txt").exists()


def test_errors_are_said_and_the_conversation_goes_on(place: Place) -> None:
    lines = f"Hello\n/model {place.model('hello')}\nHello\n/trace r-none\n/threads zzz\n"
    done = piped(place, lines, "--model", "scripted:none.yaml")
    assert done.returncode == 0, done.stderr
    assert "none.yaml" in done.stdout
    assert "Hello there, friend." in done.stdout
    assert done.stdout.count("error: ") >= 1
    assert "Traceback" not in done.stdout + done.stderr


def test_what_keeps_a_conversation_from_starting_ends_it(place: Place) -> None:
    unknown = piped(place, "Hello\n", "--agent", "nobody")
    assert unknown.returncode == 2
    assert "nobody" in unknown.stderr
    for args in (("--continue",), ("--thread", "t-none"), ("--thread", "t", "--continue")):
        result = place.corral("chat", *args)
        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("error: ")


class Silent:
    """A keyboard at which nobody sits."""

    async def prompt(self) -> str | None:
        """The end of input."""
        return None

    async def ask(self, question: str, default: str = "") -> str | None:
        """No answer."""
        del question, default
        return None


async def test_what_a_person_waits_for_is_served_before_other_runs(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    priorities: list[int] = []
    answer = ScriptedModel.stream

    def stream(self: ScriptedModel, request: ModelRequest) -> AsyncIterator[Chunk]:
        priorities.append(request.priority)
        return answer(self, request)

    monkeypatch.setattr(ScriptedModel, "stream", stream)
    (place.scripts / "one.yaml").write_text('- {text: "One."}\n')
    settings = load_settings({"home": place.home, "workspace": place.workspace})
    session = Session(settings, Silent(), Choices(model=place.model("one")))
    try:
        await session.say("Count.")
        (view,) = await (await session.runtime()).records.runs()
        trace = await (await session.runtime()).records.trace(view.run)
        await session.fork(view.run, trace[-1].seq, None)
        await (await session.runtime()).run("Count.", RunOptions(model=place.model("one")))
    finally:
        await session.close()
    assert priorities == [1, 1, 0]
