"""``corral mcp install`` and ``uninstall``: entries in the files of MCP clients."""

from __future__ import annotations

import json
import os
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from corral.cli.main import invoke
from corral.cli.mcp.clients.known import CLIENTS, Places, Served, find_client
from tests.cli.place import Place

NAMES = [client.name for client in CLIENTS]


@pytest.fixture
def user(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder in which clients keep their files."""
    home = tmp_path / "user"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for variable in ("CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.delenv(variable, raising=False)
    return home


def file_of(client: str, user: Path) -> Path:
    return find_client(client).file(Places(user, user, os.environ), "user")


def read(path: Path) -> dict[str, Any]:
    text = path.read_text("utf-8")
    return tomllib.loads(text) if path.suffix == ".toml" else json.loads(text)


@pytest.mark.parametrize("client", NAMES)
def test_an_entry_starts_this_corral_by_absolute_paths(
    place: Place, user: Path, client: str
) -> None:
    done = place.corral("mcp", "install", client, "--yes")
    assert done.code == 0, done.err
    path = file_of(client, user)
    entry = read(path)[find_client(client).section]["corral"]
    assert Path(entry["command"]).is_absolute()
    assert os.access(entry["command"], os.X_OK)
    assert entry["args"][-3:] == ["mcp", "serve", "agents"]
    assert entry["args"][-5:-3] == ["--workspace", str(place.workspace)]
    assert str(place.home) in entry["args"]
    assert not any(value in (None, "", [], {}) for value in entry.values())
    assert path.stat().st_mode & 0o777 == 0o600
    assert f"Wrote {path}" in done.err
    assert f"+++ {path}" in done.out

    again = place.corral("mcp", "install", client, "--yes")
    assert "has it already" in again.err
    assert place.corral("mcp", "uninstall", client, "--yes").code == 0
    assert not read(path).get(find_client(client).section)
    again = place.corral("mcp", "uninstall", client, "--yes")
    assert (again.code, "There is nothing of ours in it." in again.err) == (2, True)


MINE = {
    "claude-desktop": '{"globalShortcut": "", "mcpServers": {"git": {"command": "git-mcp"}}}',
    "claude-code": '{\n  "mcpServers": {"x": {}},\n  "projects": {"/x": {"mcpServers": {}}}\n}\n',
    "cursor": '{\n\t"mcpServers": {\n\t\t"git": {"command": "git-mcp", "odd": null}\n\t}\n}\n',
    "vscode": '{\r\n    // mine\r\n    "servers": {\r\n        "git": {"command": "g"}, // x\r\n'
    '    },\r\n    "inputs": [],\r\n}\r\n',
    "codex": '# mine\nmodel = "gpt" # best\n\n[mcp_servers.git] # g\ncommand = "git-mcp"\n',
}


@pytest.mark.parametrize("client", NAMES)
def test_what_is_in_the_file_stays(place: Place, user: Path, client: str) -> None:
    path = file_of(client, user)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(MINE[client].encode())
    path.chmod(0o640)
    assert place.corral("mcp", "install", client, "--yes").code == 0
    assert "corral" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o640
    (backup,) = path.parent.glob("*.before-corral-*")
    assert backup.read_bytes() == MINE[client].encode()
    assert backup.stat().st_mode & 0o777 == 0o640

    assert place.corral("mcp", "uninstall", client, "--yes").code == 0
    assert path.read_bytes().decode() == MINE[client]
    assert not list(path.parent.glob(".*.tmp*"))


def test_a_dry_run_and_a_question_nobody_answers_change_nothing(place: Place, user: Path) -> None:
    path = file_of("cursor", user)
    shown = place.corral("mcp", "install", "cursor", "--dry-run")
    assert (shown.code, path.exists()) == (0, False)
    assert '+    "corral": {' in shown.out
    refused = place.corral("mcp", "install", "cursor")
    assert (refused.code, path.exists()) == (2, False)
    assert "Add --yes" in refused.err

    printed = place.corral("mcp", "install", "cursor", "files", "--print")
    entry = json.loads(printed.out)["mcpServers"]["corral-files"]
    assert entry["args"][-3:] == ["mcp", "serve", "files"]
    assert not path.exists()


@pytest.mark.parametrize(
    ("client", "broken", "place_of_it"),
    [
        ("claude-desktop", '{"mcpServers": {}, // no\n}', "line 1, column 20"),
        ("claude-code", '{\n  "a": 1\n  "b": 2\n}', "line 3, column 3"),
        ("cursor", '{"mcpServers": []}', "mcpServers is not an object"),
        ("vscode", '{"servers": {"a": }}', "line 1, column 19"),
        ("codex", "a = 1\n[mcp_servers\n", "line 2"),
        ("codex", "mcp_servers = {}\n", "takes no"),
    ],
)
def test_a_broken_file_is_refused_with_the_place(
    place: Place, user: Path, client: str, broken: str, place_of_it: str
) -> None:
    path = file_of(client, user)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(broken)
    done = place.corral("mcp", "install", client, "--yes")
    assert done.code == 2
    assert place_of_it in done.err or "no table can be added" in done.err
    assert str(path) in done.err
    assert path.read_text() == broken
    assert list(path.parent.iterdir()) == [path] or client == "claude-code"


def test_a_server_of_others_is_not_overwritten(place: Place, user: Path) -> None:
    path = file_of("cursor", user)
    path.parent.mkdir()
    path.write_text('{"mcpServers": {"corral": {"command": "someone-elses"}}}')
    refused = place.corral("mcp", "install", "cursor", "--yes")
    assert refused.code == 2
    assert "another server named corral" in refused.err
    assert place.corral("mcp", "uninstall", "cursor", "--yes").code == 2
    assert "someone-elses" in path.read_text()
    assert place.corral("mcp", "install", "cursor", "--yes", "--name", "ours").code == 0
    assert set(read(path)["mcpServers"]) == {"corral", "ours"}


def test_what_the_user_has_added_to_our_entry_stays(place: Place, user: Path) -> None:
    place.corral("mcp", "install", "claude-desktop", "--yes")
    path = file_of("claude-desktop", user)
    data = read(path)
    data["mcpServers"]["corral"] |= {"env": {"MINE": "1"}, "alwaysAllow": ["run_status"]}
    path.write_text(json.dumps(data))
    done = place.corral("mcp", "install", "claude-desktop", "--yes", "-e", "OURS=2")
    assert "OURS will be readable" in done.err
    entry = read(path)["mcpServers"]["corral"]
    assert entry["env"] == {"MINE": "1", "OURS": "2"}
    assert entry["alwaysAllow"] == ["run_status"]


def test_a_link_is_followed_and_stays_a_link(place: Place, user: Path) -> None:
    real = user / "dotfiles" / "config.toml"
    real.parent.mkdir()
    real.write_text("# mine\n")
    link = file_of("codex", user)
    link.parent.mkdir()
    link.symlink_to(real)
    assert place.corral("mcp", "install", "codex", "--yes").code == 0
    assert link.is_symlink()
    assert "mcp_servers" in real.read_text()


def test_a_project_has_files_of_its_own(place: Place, user: Path) -> None:
    for client, file in (
        ("claude-code", ".mcp.json"),
        ("cursor", ".cursor/mcp.json"),
        ("vscode", ".vscode/mcp.json"),
        ("codex", ".codex/config.toml"),
    ):
        assert place.corral("mcp", "install", client, "--scope", "project", "--yes").code == 0
        assert "serve" in (place.workspace / file).read_text()
    refused = place.corral("mcp", "install", "claude-desktop", "--scope", "project", "--yes")
    assert "no settings for a project" in refused.err


def test_variables_are_named_as_each_client_wants_it() -> None:
    served = Served(("/bin/corral", "mcp"), forwarded=("KEY",))
    named = {client.name: client.entry(served) for client in CLIENTS if client.name != NAMES[0]}
    assert named["claude-code"]["env"] == {"KEY": "${KEY}"}
    assert named["cursor"]["env"] == {"KEY": "${env:KEY}"}
    assert named["vscode"]["env"] == {"KEY": "${input:KEY}"}
    assert named["codex"]["env_vars"] == ["KEY"]
    (asked,) = find_client("vscode").asks_for(served)
    assert (asked["id"], asked["password"]) == ("KEY", True)


def test_a_server_at_an_address_gets_its_token_by_a_variable(
    place: Place, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://127.0.0.1:8000/mcp"
    told = place.corral("mcp", "install", "cursor", "--http", url, "--yes")
    assert "token_env" in told.err
    refused = place.corral("mcp", "install", "claude-desktop", "--http", url, "--yes")
    assert refused.err.startswith("error: Claude Desktop reads no addresses from its file.\n")
    assert "mcp-remote" in refused.err
    monkeypatch.setenv("CORRAL_SERVE__TOKEN_ENV", "TOKEN")
    monkeypatch.setenv("TOKEN", "a-secret")
    wanted = {
        "claude-code": {
            "type": "http",
            "url": url,
            "headers": {"Authorization": "Bearer ${TOKEN}"},
        },
        "cursor": {"url": url, "headers": {"Authorization": "Bearer ${env:TOKEN}"}},
        "vscode": {
            "type": "http",
            "url": url,
            "headers": {"Authorization": "Bearer ${input:TOKEN}"},
        },
        "codex": {"url": url, "bearer_token_env_var": "TOKEN"},
    }
    for client, entry in wanted.items():
        done = place.corral("mcp", "install", client, "--http", url, "--yes")
        assert done.code == 0, done.err
        path = file_of(client, user)
        assert read(path)[find_client(client).section]["corral"] == entry
        assert "a-secret" not in path.read_text() + done.out + done.err
        assert place.corral("mcp", "uninstall", client, "--yes").code == 0
    for wrong in ("ftp://x/mcp", "http://user:pw@host/mcp", "http://far.example/mcp", "x"):
        assert place.corral("mcp", "install", "cursor", "--http", wrong).code == 2


def test_names_that_there_are_not_are_told(place: Place, user: Path) -> None:
    assert "Did you mean cursor?" in place.corral("mcp", "install", "cursr").err
    assert "agents, all, files" in place.corral("mcp", "install", "cursor", "fils").err
    told = place.corral("mcp", "install", "claude-desktop", "-e", "KEY", "--print")
    assert "--env KEY=VALUE" in told.err


def test_variables_that_would_be_missing_are_named_and_not_shown(
    place: Place, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    told = place.corral("mcp", "install", "cursor", "--dry-run")
    assert "OPENAI_API_KEY: set here, but Cursor starts Corral without" in told.err
    assert "very-secret" not in told.out + told.err
    assert "OPENAI" not in place.corral("mcp", "install", "claude-code", "--dry-run").err


def test_the_shell_completes_the_clients(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"COMP_WORDS": "corral mcp install c", "COMP_CWORD": "3"}
    for name, value in {"_CORRAL_COMPLETE": "complete_bash", **words}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        invoke([])
    assert capsys.readouterr().out.split() == ["claude-desktop", "claude-code", "cursor", "codex"]


def test_macos_has_its_own_folders(tmp_path: Path) -> None:
    places = Places(tmp_path, tmp_path, {}, "darwin")
    support = tmp_path / "Library" / "Application Support"
    desktop, code = (find_client(name).user_file(places) for name in ("claude-desktop", "vscode"))
    assert desktop == support / "Claude" / "claude_desktop_config.json"
    assert code == support / "Code" / "User" / "mcp.json"
    elsewhere = Places(tmp_path, tmp_path, {"CODEX_HOME": "/c", "CLAUDE_CONFIG_DIR": "/d"}, "linux")
    assert find_client("codex").user_file(elsewhere) == Path("/c/config.toml")
    assert find_client("claude-code").user_file(elsewhere) == Path("/d/.claude.json")


def test_without_a_script_the_interpreter_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from corral.cli.mcp import command_line

    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert command_line.program() == ("/nowhere/python", "-m", "corral.cli")
    assert command_line.is_ours({"args": list(command_line.serve_command("all"))})
    assert not command_line.is_ours({"args": "mcp serve"})
