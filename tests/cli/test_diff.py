"""`corral diff`: where two runs part, drawn for a wide terminal, a narrow one and a pipe."""

from __future__ import annotations

import json
import subprocess
import sys

import pexpect
import pytest

from tests.cli.place import Place
from tests.cli.runs import call, number, run, script, turn, without_servers
from tests.cli.test_inspection import HEAVY


@pytest.fixture
def pair(place: Place) -> tuple[str, str]:
    """Two runs that part at their second model call."""
    without_servers(place)
    look = turn("Let me look.", call("files__read_file", path="a.txt"))
    ten = script(
        place,
        "ten",
        look,
        turn("There are ten small orders.", call("notes__write", text="one\ntwo\nthree\n")),
        turn("Done."),
    )
    eleven = script(
        place,
        "eleven",
        look,
        turn("There are eleven small orders.", call("notes__write", text="one\n2\nthree\n")),
        turn("Look again.", call("files__list")),
        turn("Done."),
    )
    first = run(place, ten)
    # The same name for both scripts: the model is then no difference.
    (place.scripts / "ten.yaml").write_text((place.scripts / "eleven.yaml").read_text())
    assert eleven
    return first, run(place, ten)


def test_a_run_against_itself_is_identical(place: Place, pair: tuple[str, str]) -> None:
    for other in (pair[0], pair[0][:8]):
        same = place.corral("diff", pair[0], other)
        assert same.code == 0, same.err
        assert "identical: both are one run" in same.out
    (told,) = place.corral("diff", "last", pair[1], "--json").lines
    assert (told["identical"], told["pairs"]) == (True, [])


def test_a_difference_is_shown_word_by_word(place: Place, pair: tuple[str, str]) -> None:
    found = place.corral("diff", *pair)
    assert found.code == 5
    for shown in (
        "identical up to effect 3; they part at step 3, node model",
        "- There are [-ten-] small orders.",
        "+ There are {+eleven+} small orders.",
        "arguments, text",
        "- [-two-]",
        "+ {+2+}",
        "files__list()",
    ):
        assert shown in found.out
    assert "Let me look." not in found.out, "what is the same before is not shown"
    figures = {line.split("  ")[0]: line.split() for line in found.out.splitlines()}
    assert figures["steps"][1:] == ["3", "4", "+1"]
    assert figures["tool calls"][2:] == ["2", "3", "+1"]
    assert "cost" not in figures, "nothing was paid"


def test_the_other_way_round_is_the_same_turned_round(place: Place, pair: tuple[str, str]) -> None:
    found = place.corral("diff", pair[1], pair[0])
    assert found.code == 5
    assert "- There are [-eleven-] small orders." in found.out
    assert "-1" in found.out


def test_json_has_all_of_it(place: Place, pair: tuple[str, str]) -> None:
    found = place.corral("diff", *pair, "--json")
    assert found.code == 5
    (told,) = found.lines
    assert (told["a"]["run"], told["b"]["run"]) == pair
    assert (told["identical"], told["common"], told["shared"], told["last_a"]) == (False, 3, 0, 3)
    assert told["figures_b"]["steps"] - told["figures_a"]["steps"] == 1
    assert [one["verdict"] for one in told["pairs"]].count("only_b") == 2
    changes = {change["aspect"]: change for change in told["pairs"][0]["changes"]}
    assert changes["answer"]["a"] == "There are ten small orders."


def test_side_by_side_has_both_on_a_line(place: Place, pair: tuple[str, str]) -> None:
    found = place.corral("diff", *pair, "--side-by-side")
    assert found.code == 5
    (line,) = [line for line in found.out.splitlines() if "ten-]" in line]
    left, right = line.split("│")
    assert left.strip() == "There are [-ten-] small orders."
    assert right.strip() == "There are {+eleven+} small orders."


@pytest.mark.slow
def test_a_terminal_decides_by_its_width_and_colours(place: Place, pair: tuple[str, str]) -> None:
    env = {**place.env, "TERM": "xterm-256color"}
    for columns, no_color in ((140, True), (60, False)):
        chosen = {key: value for key, value in env.items() if no_color or key != "NO_COLOR"}
        chosen["COLUMNS"] = str(columns)  # pexpect sets the size when the program has begun
        argv = place.command("diff", *pair)
        child = pexpect.spawn(
            argv[0], argv[1:], env=chosen, encoding="utf-8", dimensions=(50, columns)
        )
        shown = child.read()
        child.close()
        assert child.exitstatus == 5
        assert ("│" in shown) is no_color
        assert ("[-ten-]" in shown) is no_color, "marks where there is no colour, and only there"
        assert ("\x1b[1;32meleven" in shown) is not no_color


def test_a_fork_is_compared_by_what_it_shares(place: Place) -> None:
    without_servers(place)
    model = script(place, "two", turn("Look.", call("files__read_file")), turn("Done."))
    parent = run(place, model)
    at = number(place, parent, "tool")
    done = place.corral("fork", parent, "--at", str(at), "--set-result", "-", stdin="all is well\n")
    assert done.code == 0, done.err
    found = place.corral("diff", parent, "last")
    assert found.code == 5
    assert f"identical up to effect {at - 1} ({at - 1} effects, all of them shared)" in found.out
    assert f"B is a fork of A at effect {at}" in found.out
    assert "+ {+all is well+}" in found.out
    assert f"A is a fork of B at effect {at}" in place.corral("diff", "last", parent).out


def test_what_is_long_is_cut_and_full_shows_it(place: Place) -> None:
    without_servers(place)
    texts = ["\n".join(f"{word} {n * n}" for n in range(60)) for word in ("left", "right")]
    runs = [run(place, script(place, "long", turn(text))) for text in texts]
    short, full = place.corral("diff", *runs), place.corral("diff", *runs, "--full")
    assert "more lines: --full shows them" in short.out
    assert "3481" not in short.out.split("identical up to")[1]
    assert "{+right+} 3481" in full.out


def test_text_from_a_model_cannot_steer_the_terminal(place: Place) -> None:
    without_servers(place)
    runs = [
        run(
            place,
            script(place, "evil", turn(f"\x1b[2J{word}\u202e", call(f"a\x1b__{word}")), turn()),
        )
        for word in ("one", "two")
    ]
    for layout in ("--unified", "--side-by-side"):
        found = place.corral("diff", *runs, layout)
        assert found.code == 5
        assert "\x1b" not in found.out
        assert "\u202e" not in found.out
        assert "\\x1b[2J" in found.out


@pytest.mark.parametrize("args", [("r-none", "last"), ("last", "r-none"), ("last",)])
def test_what_is_not_there_is_said(place: Place, args: tuple[str, ...]) -> None:
    result = place.corral("diff", *args)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) >= 2


@pytest.mark.slow
def test_comparing_and_planning_import_no_engine(place: Place, pair: tuple[str, str]) -> None:
    at = str(number(place, pair[0], "tool"))
    commands = [["diff", *pair], ["fork", pair[0], "--at", at, "--again", "--dry-run"]]
    code = (
        "import json, sys\n"
        "from corral.cli.main import invoke\n"
        "codes = [invoke(command) for command in json.loads(sys.argv[1])]\n"
        "loaded = [name for name in json.loads(sys.argv[2]) if name in sys.modules]\n"
        "print(json.dumps({'codes': codes, 'loaded': loaded}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands), json.dumps(HEAVY)],
        env=place.env,
        capture_output=True,
        text=True,
        check=True,
    )
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == {"codes": [5, 0], "loaded": []}
