"""What the shell offers after TAB: agents where one is named, and patterns."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.agents.patterns.names import NAMES
from corral.agents.patterns.registry import PATTERNS
from corral.cli.main import invoke
from tests.cli.place import Place

Shell = Callable[[str], list[str]]

_MAIN = "import sys; from corral.cli.main import invoke\n"
_LOADED = "try: invoke([])\nfinally: print('langgraph' in sys.modules, file=sys.stderr)"


def asked(line: str) -> dict[str, str]:
    """The environment in which bash asks for what may come at the end of a command line."""
    words = f"corral {line}"
    number = str(len(words.split(" ")) - 1)
    return {"_CORRAL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": number}


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """What bash is offered."""

    def offered(line: str) -> list[str]:
        for name, value in asked(line).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit):
            invoke([])
        return capsys.readouterr().out.split()

    return offered


@pytest.fixture
def team(place: Place) -> Place:
    folder = place.workspace / ".corral" / "agents"
    folder.mkdir(parents=True)
    (folder / "reviewer.md").write_text("---\ndescription: Looks.\n---\nYou review.\n")
    (folder / "broken.md").write_text("---\ntols: x\n---\n")
    return place


@pytest.mark.parametrize(
    "line",
    ["run --agent ", "chat --agent ", "agents show ", "agents check ", "agents graph "],
)
def test_agents_are_offered_where_one_is_named(team: Place, shell: Shell, line: str) -> None:
    assert shell(line) == ["assistant", "broken", "reviewer"]
    assert shell(f"{line}r") == ["reviewer"]


def test_those_of_another_workspace_too(
    team: Place, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shell(f"--workspace {team.workspace} agents show r") == ["reviewer"]


def test_where_nothing_can_be_read_nothing_is_offered(team: Place, shell: Shell) -> None:
    (team.workspace / "corral.toml").write_text("[[[")
    assert shell("agents show ") == []


def test_patterns_are_offered_without_loading_them(place: Place) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MAIN + _LOADED],
        env={**os.environ, **place.env, **asked("agents new --pattern b")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == ["best_of_n", "budget_forcing"]
    assert done.stderr.split() == ["False"]
    assert tuple(PATTERNS) == NAMES
