"""The REPL, in a terminal and through a pipe."""

from __future__ import annotations

from tests.cli.place import Place, chatting, piped

QUESTION = "for later"


def test_a_conversation_with_questions(new_place: Place) -> None:
    place = new_place  # the very first one
    with chatting(place, "--model", place.model("write")) as chat:
        chat.see("model scripted:", "policy ask", str(place.workspace), "/help", "»")

        chat.type("Write it down")
        chat.see(
            "I will write it down.",
            "files__write_file",
            "path: notes.txt",
            "+one",
            "+two",
            "[y]es",
            "[a]lways",
            QUESTION,
        )
        assert not (place.workspace / "notes.txt").exists()
        chat.type("what?")
        chat.see("one of the letters", QUESTION)
        chat.type("n not before Monday")
        chat.see("not before Monday", "All is written.")
        assert not (place.workspace / "notes.txt").exists()

        chat.type("Write it down again")
        chat.see("[e]dit", QUESTION)
        chat.type("e")
        chat.see("arguments: ", "notes.txt")
        chat.type("\x01\x0b{broken")
        chat.see("not JSON", QUESTION)
        chat.type("e")
        chat.see("arguments: ", "notes.txt")
        chat.type('\x01\x0b{"path": "edited.txt", "content": "edited"}')
        chat.see("files__write_file(", "edited.txt", "All is written.")
        assert (place.workspace / "edited.txt").read_text() == "edited"


def test_a_pipe_gives_prompts_answers_and_commands(place: Place) -> None:
    lines = "\n".join([
        "Write it \\", "down", "n no reason at all", "/help", "/nope", "/policy workspace",
        "Write it now", "/runs", "/trace", "/memory", "/threads", "/approvals", "/model",
        "/new", "In a new thread", "/quit", "never read",
    ])  # fmt: skip
    done = piped(place, lines + "\n", "--model", place.model("write"))
    assert done.returncode == 0, done.stderr
    for shown in (
        "no reason at all",
        "/memory [forget ID]",
        "There is no command /nope",
        "policy: workspace",
        "step 2",
        "Nothing is remembered",
        "model: scripted",
        "Nothing waits for an answer",
    ):
        assert shown in done.stdout
    assert "\x1b" not in done.stdout
    runs = place.corral("runs", "--json").lines
    assert [run["prompt"] for run in runs] == ["In a new thread", "Write it now", "Write it \ndown"]
    assert len({run["thread"] for run in runs}) == 2
    assert (place.workspace / "notes.txt").exists()
