"""Whatever goes wrong is said in words, with what to do next, and no traceback."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.cli.place import Place


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("--nope",),
        ("rnu",),
        ("run",),
        ("runs", "--limit", "0"),
        ("approve",),
        ("memory",),
        ("deny", "a-1"),
        ("chat", "--thread", "t", "--continue"),
        ("mcp", "serve", "fils"),
        ("budget", "--by", "shoe-size"),
        ("approve", "last", "--scope", "moon"),
        ("run", "x", "--budget", "usd=-1"),
    ],
)
def test_wrong_usage_exits_2_with_a_hint(place: Place, args: tuple[str, ...]) -> None:
    result = place.corral(*args)
    if not args:
        assert (result.code, "Usage: corral" in result.out) == (0, True)
        return
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ")
    assert "Value error" not in result.err
    assert len(result.err.splitlines()) >= 2


def test_a_mistyped_command_is_guessed(place: Place) -> None:
    assert "'run'" in place.corral("rnu").err
    assert "files" in place.corral("mcp", "serve", "fils").err


def test_the_help_of_the_command_that_was_meant_is_named(place: Place) -> None:
    assert "See: corral mcp serve --help" in place.corral("mcp", "serve").err
    assert "See: corral approve --help" in place.corral("approve").err
    assert "See: corral --help" in place.corral("--nope").err


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("model = [", "corral.toml"),
        ('modle = "local"', "model"),
        ("[limits]\nmax_steps = 'x'", "max_steps"),
        ('sandbox = "none"', "sandbox"),
    ],
)
def test_a_bad_configuration_is_named(place: Place, text: str, named: str) -> None:
    (place.workspace / "corral.toml").write_text(text)
    result = place.corral("runs")
    assert (result.code, result.out) == (2, "")
    assert "corral.toml" in result.err
    assert named in result.err
    assert place.corral("doctor").code == 1


def test_a_broken_database_is_said_and_left_alone(place: Place) -> None:
    broken = place.home / "corral.db"
    broken.write_bytes(b"this is no database, it is a text\n" * 200)
    for args in (("runs",), ("run", "Hello", "--model", place.model("hello"))):
        result = place.corral(*args)
        assert result.code == 1
        assert result.err.startswith("error: ")
        assert "corral.db" in result.err
        assert "Traceback" not in result.err
    assert broken.read_bytes().startswith(b"this is no database")


def test_a_fault_of_ours_is_one_line_and_a_traceback_on_demand(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("corral.runtime.records.Records.runs", broken)
    result = place.corral("runs")
    assert result.code == 1
    assert result.err.startswith("error: unexpected ZeroDivisionError: by zero\n")
    assert "CORRAL_DEBUG=1" in result.err
    assert "Traceback" not in result.err
    monkeypatch.setenv("CORRAL_DEBUG", "1")
    assert "Traceback" in place.corral("runs").err


def test_text_from_a_model_cannot_steer_the_terminal(place: Place) -> None:
    script = place.scripts / "escape.yaml"
    script.write_text(r'- {text: "\e[2J\e]0;owned\a fine\rx"}')
    result = place.corral("run", "Hello", "--model", f"scripted:{script}")
    assert result.code == 0, result.err
    assert "\x1b" not in result.out + result.err
    assert "\\x1b[2J" in result.out


@pytest.mark.slow
def test_a_closed_pipe_is_no_error(place: Place) -> None:
    for _ in range(3):
        place.corral("run", "Hello", "--model", place.model("hello"))
    process = subprocess.Popen(
        place.command("runs", "--json"),
        env=place.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == ""
    assert process.wait(timeout=30) == 1


def test_global_options_are_kept_in_the_commands_that_are_proposed(
    new_place: Place, tmp_path: Path
) -> None:
    home = tmp_path / "other home"
    model = new_place.model("write")
    paused = new_place.corral("--home", str(home), "run", "Write", "--model", model)
    assert paused.code == 3, paused.err
    assert f"corral --home '{home}' resume" in paused.err
    assert (home / "corral.db").exists()
    assert not new_place.home.exists()


def test_another_workspace_is_worked_in(place: Place, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    args = ("run", "Write", "--policy", "workspace", "--model", place.model("write"))
    assert place.corral("--workspace", str(other), *args).code == 0
    assert (other / "notes.txt").exists()
    assert [path.name for path in place.workspace.iterdir()] == ["orders.csv"]
