"""Calls in doubt at the command line and in the REPL: retry, give the result, fail the call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

import corral
from corral.runtime.events import ToolStarted
from tests.cli.place import Place, Result

LEDGER = Path(__file__).parents[2] / "bench" / "_ledger.py"
CALLS = {"rent": "retry", "power": "give", "phone": "fail"}


@pytest.fixture
def cut_off(place: Place, tmp_path: Path) -> dict[str, str]:
    """The ids of three questions about calls that were cut off, by what was to be paid."""
    config = tmp_path / "config" / "corral" / "config.toml"
    config.parent.mkdir(parents=True)
    log = tmp_path / "ledger.log"
    config.write_text(
        f'[mcp.ledger]\ncommand = "{sys.executable}"\nargs = ["-SE", "{LEDGER}", "{log}"]\n'
        'sandbox = false\n[agents.assistant]\nservers = ["ledger"]\nfacts = 0\n'
        '[[rules]]\ntool = "ledger__*"\nuntrusted = true\naction = "allow"\n'
    )
    # None of them is answered before all are cut off; a further try is at once.
    calls = [{"name": "ledger__pay", "args": {"what": what, "stall": 60}} for what in CALLS]
    script = [{"text": "Paying.", "tool_calls": calls}, {"text": "All is paid."}]
    (place.scripts / "pay.yaml").write_text(json.dumps(script))

    async def begin() -> None:
        options = corral.RunOptions(model=place.model("pay"))
        async with corral.open() as c:
            begun = 0
            async with contextlib.aclosing(c.stream("Pay.", options)) as events:
                async for event in events:
                    begun += isinstance(event, ToolStarted)
                    if begun == len(CALLS):
                        break

    asyncio.run(begin())
    paused = place.corral("resume", "last")
    assert paused.code == 3, paused.err
    assert "paused: 3 calls in doubt" in paused.err
    return {
        each["args"]["what"]: each["id"]
        for each in place.corral("approvals", "--json").lines
        if each["kind"] == "in_doubt"
    }


def test_each_is_answered_in_its_own_way(place: Place, cut_off: dict[str, str]) -> None:
    asked = place.corral("approvals").out
    for key in cut_off.values():
        assert f"retry:           corral approve {key}" in asked
        assert f"give the result: corral give {key} --result '…'" in asked
        assert f"fail the call:   corral deny {key} --reason '…'" in asked

    result = place.workspace / "receipt.txt"
    result.write_text("paid power, receipt 7")
    assert place.corral("approve", cut_off["rent"]).code == 0
    given = place.corral("give", cut_off["power"], "--result", f"@{result}")
    assert (given.code, given.err.splitlines()[0][:5]) == (0, "given"), given.err
    assert place.corral("deny", cut_off["phone"], "--reason", "no line").code == 0

    done = place.corral("resume", "last")
    assert (done.code, "All is paid." in done.out) == (0, True), done.err
    assert results(place) == {
        "rent": "pay rent",
        "power": "paid power, receipt 7",
        "phone": "It is unknown whether this call was made: no line",
    }
    assert place.corral("replay", "last").out.startswith("identical")
    shown = place.corral("approvals", "--all").out
    assert "given" in shown
    assert "answer: paid power, receipt 7" in shown


def test_a_result_comes_from_a_pipe_or_is_refused_in_words(
    place: Place, cut_off: dict[str, str]
) -> None:
    key = cut_off["rent"]
    missing = place.corral("give", key, "--result", "@nowhere.txt")
    says(missing, "cannot be read from nowhere.txt", "--result @FILE")
    says(place.corral("give", "a-none", "--result", "x"), "no approval 'a-none'")
    says(place.corral("give", key), "--result")
    said = place.corral("give", key, "--result", "-", "--json", stdin="from a pipe\n")
    assert (said.lines[0]["status"], said.lines[0]["answer_result"]) == ("given", "from a pipe\n")
    says(place.corral("give", key, "--result", "x"), "answered (given)", "corral resume")


@pytest.mark.slow
def test_the_repl_asks_in_the_same_words(place: Place, cut_off: dict[str, str]) -> None:
    assert len(cut_off) == len(CALLS)
    thread = place.corral("approvals", "--json").lines[0]["thread"]
    answers = ["y", "r", "g paid by hand", "f", "no line"]
    done = subprocess.run(
        place.command("chat", "--thread", thread),
        input="\n".join([*answers, ""]),
        capture_output=True,
        text=True,
        env=place.env,
        timeout=250,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[r]etry  [g]ive the result  [f]ail the call") == 4
    assert "Please answer with one of the letters." in done.stdout, "y is no answer to this"
    assert "All is paid." in done.stdout
    # Which of the three is asked about first is left to chance.
    given = results(place).values()
    assert sum(text in {f"pay {what}" for what in CALLS} for text in given) == 1
    assert {"paid by hand", "It is unknown whether this call was made: no line"} < set(given)


def results(place: Place) -> dict[str, str]:
    """What the calls of the newest run gave."""
    entries = place.corral("trace", "last", "--json").lines
    return {
        entry["request"]["args"]["what"]: entry["result"]["text"]
        for entry in entries
        if entry["kind"] == "tool"
    }


def says(result: Result, *words: str) -> None:
    assert result.code == 2 or "error" in result.err
    assert result.code != 0
    for word in words:
        assert word in result.err
