"""One run from the shell: its output, its exit code, and how it goes on."""

from __future__ import annotations

import signal
import subprocess

import pytest

from tests.cli.place import Place


def test_a_run_prints_its_answer_and_nothing_else_on_standard_output(place: Place) -> None:
    result = place.corral("run", "Hello", "--model", place.model("hello"))
    assert result.code == 0, result.err
    assert result.out == "Hello there, friend.\n"
    assert "1 steps" in result.err


def test_an_answer_in_a_form_is_printed_once(place: Place) -> None:
    (place.scripts / "form.yaml").write_text("""- {text: '{"total": 2, "mood": "good"}'}\n""")
    config = place.scripts / "form.toml"
    config.write_text("""[agents.counter.returns]
type = "object"
properties = {total = {type = "integer"}, mood = {enum = ["good", "bad"]}}
""")
    settings, model = ("--config", str(config)), ("--model", place.model("form"))
    done = place.corral(*settings, "run", "--agent", "counter", *model, "Go")
    assert [line["total"] for line in done.lines] == [2]


def test_the_prompt_can_come_from_standard_input(place: Place) -> None:
    done = place.corral("run", "-", "--model", place.model("hello"), "--json", stdin="From a pipe")
    assert done.code == 0, done.err
    (run,) = place.corral("runs", "--json").lines
    assert run["prompt"] == "From a pipe"
    empty = place.corral("run", "-", stdin="  \n")
    assert (empty.code, empty.out) == (2, "")
    assert "empty" in empty.err


def test_json_gives_events_and_the_result_last(place: Place) -> None:
    result = place.corral("run", "Look", "--json", "--model", place.model("read"))
    assert result.code == 0, result.err
    events = result.lines
    kinds = [event["type"] for event in events]
    assert kinds[0] == "run_started"
    assert {"text", "tool_started", "tool_finished"} <= set(kinds)
    last = events[-1]
    assert list(last)[:6] == ["type", "run", "thread", "status", "output", "usage"]
    assert (last["type"], last["status"], last["steps"]) == ("result", "completed", 2)
    assert last["output"] == "There are two orders."
    assert set(last["usage"]) == {
        *("input_tokens", "output_tokens", "cost_usd"),
        *("cached_tokens", "reasoning_tokens"),
    }
    assert "".join(e["text"] for e in events if e["type"] == "text").startswith("Let me look.")


def test_a_paused_run_says_how_to_answer_and_goes_on_after_it(place: Place) -> None:
    paused = place.corral("run", "Write", "--model", place.model("write"))
    assert paused.code == 3, paused.err
    (approval,) = place.corral("approvals", "--json").lines
    run, question = approval["run"], approval["id"]
    for said in (
        "files__write_file",
        "notes.txt",
        "+one",
        "+two",
        f"corral approve {question}",
        f"corral deny {question}",
        f"corral resume {run}",
    ):
        assert said in paused.err
    assert not (place.workspace / "notes.txt").exists()

    waiting = place.corral("resume", run)
    assert waiting.code == 3
    listed = place.corral("approvals")
    assert "+two" in listed.out

    answered = place.corral("approve", question)
    assert answered.code == 0, answered.err
    assert f"corral resume {run}" in answered.err
    again = place.corral("deny", question, "--reason", "changed my mind")
    assert again.code == 2
    assert again.err.startswith("error: ")
    assert "Traceback" not in again.err

    done = place.corral("resume", run)
    assert done.code == 0, done.err
    assert done.out.endswith("All is written.\n")
    assert (place.workspace / "notes.txt").read_text() == "one\ntwo\n"
    assert place.corral("resume", run).code == 2


def test_a_denied_call_is_not_made_and_the_model_reads_why(place: Place) -> None:
    place.corral("run", "Write", "--model", place.model("write"))
    (approval,) = place.corral("approvals", "--json").lines
    denied = place.corral("deny", approval["id"], "--reason", "not today", "--json")
    (answer,) = denied.lines
    assert (answer["status"], answer["answer_reason"]) == ("denied", "not today")
    assert place.corral("resume", approval["run"]).code == 0
    assert not (place.workspace / "notes.txt").exists()
    trace = place.corral("trace", approval["run"], "--json")
    assert "not today" in trace.out
    assert place.corral("approvals", "--json").lines == []
    assert len(place.corral("approvals", "--json", "--all").lines) == 1


def test_edited_arguments_are_checked_and_used(place: Place) -> None:
    place.corral("run", "Write", "--model", place.model("write"))
    (approval,) = place.corral("approvals", "--json").lines
    for wrong in ("{not json", "[1]", '{"path": 3}'):
        refused = place.corral("approve", approval["id"], "--edit", wrong)
        assert refused.code == 2
        assert refused.err.startswith("error: ")
    edit = '{"path": "other.txt", "content": "edited"}'
    assert place.corral("approve", approval["id"], "--edit", edit).code == 0
    assert place.corral("resume", approval["run"]).code == 0
    assert (place.workspace / "other.txt").read_text() == "edited"
    assert not (place.workspace / "notes.txt").exists()


def test_always_is_not_asked_again(place: Place) -> None:
    place.corral("run", "Write", "--model", place.model("write"))
    (approval,) = place.corral("approvals", "--json").lines
    assert place.corral("approve", approval["id"], "--always").code == 0
    assert place.corral("resume", approval["run"]).code == 0
    (place.workspace / "notes.txt").unlink()
    again = place.corral("run", "Write", "--model", place.model("write"))
    assert again.code == 0, again.err
    assert (place.workspace / "notes.txt").exists()


def test_policies_decide_without_asking(place: Place) -> None:
    free = place.corral("run", "Write", "--model", place.model("write"), "--policy", "workspace")
    assert free.code == 0, free.err
    assert "files__write_file" in free.err
    (place.workspace / "notes.txt").unlink()
    tight = place.corral("run", "Write", "--model", place.model("write"), "--policy", "read-only")
    assert tight.code == 0, tight.err
    assert not (place.workspace / "notes.txt").exists()


def test_a_limit_stops_a_run_which_can_go_on(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_LIMITS__MAX_STEPS", "1")
    stopped = place.corral("run", "Look", "--model", place.model("read"))
    assert stopped.code == 4, stopped.err
    assert "--max-steps" in stopped.err
    (run,) = place.corral("runs", "--json").lines
    done = place.corral("resume", run["run"], "--max-steps", "5")
    assert done.code == 0, done.err
    assert done.out.endswith("There are two orders.\n")


def test_what_a_check_refuses_is_not_shown_and_the_thread_goes_on(place: Place) -> None:
    (place.workspace / "corral.toml").write_text(
        '[[checks]]\nname = "kind"\non = "output"\non_fail = "reask"\npattern = "friend"\n'
        "retries = 1\n"
    )
    (place.scripts / "rude.yaml").write_text('- {text: "No, friend."}\n' * 2)
    refused = place.corral("run", "Hello", "--model", place.model("rude"))
    assert (refused.code, refused.out) == (4, "")
    assert "friend" not in refused.err
    assert "corral run --thread t-" in refused.err


def test_a_failed_run_exits_1_and_says_where_to_look(place: Place) -> None:
    failed = place.corral("run", "Hello", "--model", place.model("short"))
    assert failed.code == 1
    assert failed.err.count("error: ") == 1
    assert "corral trace" in failed.err


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("--model", "nonsense"), "nonsense"),
        (("--model", "scripted:none.yaml"), "none.yaml"),
        (("--model", "none.gguf"), "none.gguf"),
        (("--model", "openai:gpt-4o-mini"), "OPENAI_API_KEY"),
        (("--agent", "nobody"), "nobody"),
        (("--thread", "nowhere"), "nowhere"),
        (("--policy", "lax"), "lax"),
        (("--policy", "none.toml"), "none.toml"),
    ],
)
def test_what_does_not_exist_is_named_and_nothing_starts(
    place: Place, args: tuple[str, str], named: str
) -> None:
    result = place.corral("run", "Hello", "--json", *args)
    assert result.code == 2, result.err
    assert result.out == ""
    assert result.err.startswith("error: ")
    assert named in result.err
    assert "Traceback" not in result.err
    assert place.corral("runs", "--json").lines == []


def test_a_conversation_goes_on_in_its_thread(place: Place) -> None:
    first = place.corral("run", "Hello", "--json", "--model", place.model("hello")).lines[-1]
    second = place.corral(
        "run", "Again", "--json", "--model", place.model("again"), "--thread", first["thread"]
    ).lines[-1]
    assert second["thread"] == first["thread"]
    (thread,) = place.corral("threads", "--json").lines
    assert (thread["thread"], thread["runs"]) == (first["thread"], 2)


def test_ctrl_c_stops_the_run_and_says_how_to_go_on(place: Place) -> None:
    command = place.command("run", "Tell me", "--model", place.model("slow"))
    process = subprocess.Popen(
        command, env=place.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.read(4) == "word"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    (run,) = place.corral("runs", "--json").lines
    assert f"corral resume {run['run']}" in err
    assert run["status"] == "stopped"
    assert len(out.split()) < 300
