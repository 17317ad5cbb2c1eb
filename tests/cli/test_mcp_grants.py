"""What the command of a server names is offered to be granted, and never is unasked."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.cli.place import Place

SERVER = Path(__file__).parent / "servers" / "declared.py"


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A server outside of the workspace, with files that are not beside its script."""
    top = tmp_path / "package"
    (top / "src").mkdir(parents=True)
    shutil.copy(SERVER, top / "src")
    (top / "tools.json").write_text('{"echo": "Say it again."}')
    (top / "package.json").write_text("{}")
    return top


def command(script: Path | str, tools: Path | str) -> list[str]:
    return ["--", sys.executable, "-S", "-E", str(script), str(tools)]


def entry(file: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads(file.read_text())["mcp"][name]
    return found


def asked(place: Place, *words: str) -> pexpect.spawn[str]:
    argv = place.command("mcp", "add", "echo", *words)
    return pexpect.spawn(
        argv[0], argv[1:], env=place.env, encoding="utf-8", timeout=120, dimensions=(50, 500)
    )


def test_a_person_lets_a_script_read_its_package(
    place: Place, tmp_path: Path, package: Path
) -> None:
    child = asked(place, *command(package / "src" / SERVER.name, package / "tools.json"))
    child.expect_exact("sandbox  no files and no network")
    child.expect_exact("It is then added to your own settings.")
    child.expect_exact(f"Let it read {package}?")
    child.sendline("y")
    child.expect_exact(f"reads    {package}")
    child.expect_exact("Add it?")
    child.sendline("y")
    child.expect_exact("1 tools are pinned")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    own = entry(tmp_path / "config" / "corral" / "config.toml", "echo")
    assert own["grants"] == [str(package)]
    assert not (place.workspace / "corral.toml").exists()


@pytest.mark.slow
def test_a_no_grants_nothing(place: Place, package: Path) -> None:
    child = asked(place, *command(package / "src" / SERVER.name, "x"))
    child.expect_exact(f"Let it read {package}?")
    child.sendline("n")
    child.expect_exact("Add it?")
    child.sendline("y")
    child.expect_exact(f"add it again with: --grant {package} --scope user")
    child.expect(pexpect.EOF)
    assert "grants" not in entry(place.workspace / "corral.toml", "echo")


def test_a_yes_ahead_grants_nothing_and_says_what_was_missing(place: Place, package: Path) -> None:
    words = command(package / "src" / SERVER.name, package / "tools.json")
    done = place.corral("mcp", "add", "echo", "--yes", *words)
    assert done.code == 1
    assert f"add it again with: --grant {package} --scope user" in done.err
    assert "grants" not in entry(place.workspace / "corral.toml", "echo")
    place.corral("mcp", "remove", "echo", "--yes")
    only_the_script = ("--scope", "user", "--grant", str(package / "src"))
    done = place.corral("mcp", "add", "echo", "--yes", *only_the_script, *words)
    assert f"add it again with: --grant {package} --scope user" in done.err
    place.corral("mcp", "remove", "echo", "--yes")
    done = place.corral(
        "mcp", "add", "echo", "--yes", "--scope", "user", "--grant", str(package), *words
    )
    assert done.code == 0, done.err


def test_a_relative_path_is_written_as_the_sandbox_has_it(place: Place, package: Path) -> None:
    inside = place.workspace / "server"
    shutil.copytree(package, inside)
    words = command(f"server/src/{SERVER.name}", "server/tools.json")
    done = place.corral("mcp", "add", "echo", "--yes", "--grant", "server", *words)
    assert done.code == 0, done.err
    stored = entry(place.workspace / "corral.toml", "echo")
    assert stored["args"][-2:] == [str(inside / "src" / SERVER.name), str(inside / "tools.json")]


@pytest.mark.parametrize("word", ["/", "/etc/passwd", "--root=/usr", "HOME", "HOME/.ssh", "notes"])
def test_what_is_no_programs_own_is_not_offered(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    home = tmp_path / "user"
    (home / ".ssh").mkdir(parents=True)
    (place.workspace / "notes").mkdir()
    monkeypatch.setitem(place.env, "HOME", str(home))
    child = asked(place, "--", "ls", word.replace("HOME", str(home)))
    child.expect(["Let it read", "Add it"])
    assert child.after == "Add it"
    child.sendline("n")
    child.expect(pexpect.EOF)
