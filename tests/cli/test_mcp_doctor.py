"""``corral mcp doctor`` and ``bundle``: what a client would see, and what it is given."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from corral.cli.mcp import bundle_start
from corral.mcp_servers.serving.announcing import Listening, announced
from corral.version import VERSION
from tests.cli.place import Place

SERVER = Path(__file__).parent / "servers" / "trying.py"


@pytest.fixture
def user(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder in which clients keep their files."""
    home = tmp_path / "user"
    for folder in (".codex", ".cursor"):
        (home / folder).mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    for variable in ("CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CORRAL_TEST_SHELL", "shell")
    return home


def checks(place: Place, client: str, *options: str) -> dict[str, tuple[str, str]]:
    """What the doctor says, by name: the status and the words."""
    done = place.corral("mcp", "doctor", client, "--name", "it", "--json", *options)
    found = {line["name"]: (line["status"], line["detail"]) for line in done.lines}
    failed = any(status == "fail" for status, _ in found.values())
    assert done.code == (1 if failed else 0), done.err
    assert all(line["fix"] for line in done.lines if line["status"] == "fail")
    return found


def claude_code(user: Path, entry: dict[str, Any]) -> None:
    (user / ".claude.json").write_text(json.dumps({"mcpServers": {"it": entry}}))


def started(mode: str, **more: Any) -> dict[str, Any]:
    return {"command": sys.executable, "args": ["-S", "-E", str(SERVER), mode], **more}


def test_a_server_that_answers_is_told_with_its_tools(place: Place, user: Path) -> None:
    claude_code(user, started("fine", env={"KEY": "${HOME}"}))
    found = checks(place, "claude-code")
    assert found["start"][0] == "ok"
    assert "trying 7, protocol 2025-11-25" in found["start"][1]
    # Claude Code hands on the variables of its shell, and fills in those that an entry names.
    assert found["tools"] == ("ok", f"2: {user}-shell, second")

    local = {"projects": {str(place.workspace): {"mcpServers": {"it": started("fine")}}}}
    (user / ".claude.json").write_text(json.dumps(local))
    assert checks(place, "claude-code")["tools"] == ("ok", "2: None-shell, second")


def test_what_is_not_ours_is_shown_before_it_is_started(place: Place, user: Path) -> None:
    claude_code(user, {"command": sys.executable, "args": ["-c", "print('\x1b[2J')", "a b"]})
    done = place.corral("mcp", "doctor", "claude-code", "--name", "it")
    assert f"starting it: {sys.executable} -c 'print('" in done.err
    assert done.err.splitlines()[0].endswith("'a b'")
    assert "\x1b" not in done.err


def test_each_client_gives_its_own_environment(
    place: Place, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEY", "mine")
    (user / ".cursor" / "mcp.json").write_text(
        json.dumps({"mcpServers": {"it": started("fine", env={"KEY": "${env:KEY}"})}})
    )
    assert checks(place, "cursor")["tools"][1] == "2: mine-None, second"
    config = user / ".codex" / "config.toml"
    entry = started("fine")
    text = f'[mcp_servers.it]\ncommand = "{entry["command"]}"\nargs = {json.dumps(entry["args"])}\n'
    config.write_text(text)
    assert checks(place, "codex")["tools"][1] == "2: None-None, second"
    config.write_text(f'{text}env_vars = ["KEY", "NOT_SET_HERE"]\n')
    found = checks(place, "codex")
    assert found["tools"][1] == "2: mine-None, second"
    assert found["variables"] == ("warn", "NOT_SET_HERE: not set here")


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("dies", "It ended with code 1 before it answered. It said: no database at /var/x"),
        ("chatty", "It wrote what is no message of the protocol: 'Welcome!'"),
        ("refuses", "It answered with an error: no such method."),
    ],
)
def test_what_is_wrong_with_a_server_is_said(
    place: Place, user: Path, mode: str, words: str
) -> None:
    claude_code(user, started(mode))
    status, detail = checks(place, "claude-code")["start"]
    assert (status, words in detail) == ("fail", True), detail


def test_a_server_is_given_as_long_as_the_client_gives_it(place: Place, user: Path) -> None:
    entry = started("silent")
    (user / ".codex" / "config.toml").write_text(
        f'[mcp_servers.it]\ncommand = "{entry["command"]}"\nargs = {json.dumps(entry["args"])}\n'
        "startup_timeout_sec = 0.5\n"
    )
    status, detail = checks(place, "codex")["start"]
    assert (status, "did not answer within 0.5 s" in detail) == ("fail", True)


def test_a_server_without_tools_is_of_no_use(place: Place, user: Path) -> None:
    claude_code(user, started("empty"))
    assert checks(place, "claude-code")["tools"] == ("fail", "It offers no tools.")


@pytest.mark.parametrize(
    ("entry", "name", "words"),
    [
        ({"command": "corral"}, "command", "no absolute path"),
        ({"command": "/no/such/corral"}, "command", "There is no program"),
        ({"command": sys.executable, "args": ["--workspace", "/gone"]}, "workspace", "not there"),
        ({"command": "/x", "disabled": True}, "entry", "switched off"),
    ],
)
def test_an_entry_that_cannot_work_is_not_even_started(
    place: Place, user: Path, entry: dict[str, Any], name: str, words: str
) -> None:
    claude_code(user, entry)
    found = checks(place, "claude-code")
    assert found[name][0] == "fail"
    assert words in found[name][1]
    assert "start" not in found


def test_a_client_without_an_entry_is_told_how_to_get_one(place: Place, user: Path) -> None:
    done = place.corral("mcp", "doctor", "vscode")
    assert done.code == 1
    assert "corral mcp install vscode" in done.out
    (user / ".claude.json").write_text("{")
    broken = place.corral("mcp", "doctor", "claude-code")
    assert (broken.code, "line 1, column 2" in broken.err) == (2, True)


def test_what_a_folder_brings_is_not_started_unless_it_is_what_install_writes(
    place: Place, user: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever made the folder could have written it, for whoever asks the doctor there."""
    monkeypatch.chdir(place.workspace)
    ran = place.workspace / "ran"
    entry = {"command": "/bin/sh", "args": ["-c", f"touch {ran}; exit 1", "mcp", "serve"]}
    file = place.workspace / ".mcp.json"
    file.write_text(json.dumps({"mcpServers": {"it": entry}}))
    assert checks(place, "claude-code")["entry"][0] == "fail"
    assert not ran.exists()

    options = ("claude-code", "files", "--scope", "project", "--name", "it", "--yes")
    file.unlink()
    assert place.corral("mcp", "install", *options).code == 0
    assert checks(place, "claude-code")["start"][0] == "ok"
    written = json.loads(file.read_text())
    written["mcpServers"]["it"]["env"] = {"PYTHONPATH": str(place.workspace)}
    file.write_text(json.dumps(written))
    assert checks(place, "claude-code")["entry"][0] == "fail"


class _Remote(BaseHTTPRequestHandler):
    """A streamable HTTP server of one tool that wants a token."""

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("Authorization") != "Bearer right":
            self.send_error(401)
            return
        results = {
            "initialize": {"protocolVersion": "2025-11-25", "serverInfo": {"name": "far"}},
            "tools/list": {"tools": [{"name": "reach"}]},
        }
        answer: dict[str, Any] = {"jsonrpc": "2.0", "id": message.get("id")}
        if message["method"] in results:
            answer["result"] = results[message["method"]]
        else:
            answer["error"] = {"code": -32601, "message": "no"}
        body = f"event: message\ndata: {json.dumps(answer)}\n\n".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        pass


@pytest.fixture
def remote() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Remote)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/mcp"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_server_at_an_address_is_asked_with_the_clients_token(
    place: Place, user: Path, remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claude_code(user, {"url": remote, "headers": {"Authorization": "Bearer ${IT_TOKEN}"}})
    assert checks(place, "claude-code")["token"] == ("fail", "IT_TOKEN is not set.")
    monkeypatch.setenv("IT_TOKEN", "wrong")
    assert "the token is missing or is not" in checks(place, "claude-code")["reach"][1]
    monkeypatch.setenv("IT_TOKEN", "right")
    assert checks(place, "claude-code")["tools"] == ("ok", "1: reach")
    (user / ".codex" / "config.toml").write_text(
        f'[mcp_servers.it]\nurl = "{remote}"\nbearer_token_env_var = "IT_TOKEN"\n'
    )
    assert checks(place, "codex")["tools"] == ("ok", "1: reach")


def test_what_a_folder_brings_gets_no_variable_but_the_servers_token(
    place: Place, user: Path, remote: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.workspace)
    monkeypatch.setenv("IT_TOKEN", "right")
    entry = {"url": remote, "headers": {"Authorization": "Bearer ${IT_TOKEN}"}}
    (place.workspace / ".mcp.json").write_text(json.dumps({"mcpServers": {"it": entry}}))
    assert set(checks(place, "claude-code")) == {"entry"}
    monkeypatch.setenv("CORRAL_SERVE__TOKEN_ENV", "IT_TOKEN")
    assert checks(place, "claude-code")["tools"] == ("ok", "1: reach")


def test_an_address_where_nobody_listens_is_said(place: Place, user: Path) -> None:
    claude_code(user, {"url": "http://127.0.0.1:9/mcp"})
    assert "cannot be reached" in checks(place, "claude-code")["reach"][1]


def test_an_address_where_nothing_is_is_held_against_what_runs(place: Place, user: Path) -> None:
    claude_code(user, {"url": "http://127.0.0.1:9/mcp"})
    place.home.mkdir(exist_ok=True)
    here = "http://127.0.0.1:8931/mcp"
    with announced(place.home, Listening(here, "secret", "agents", os.getpid())):
        told = place.corral("mcp", "doctor", "claude-code", "--name", "it")
    assert f"What runs here: {here}" in told.out
    assert "secret" not in told.out + told.err
    assert "Is it running?" in place.corral("mcp", "doctor", "claude-code", "--name", "it").out


def test_a_bundle_asks_for_what_it_needs_and_holds_no_secret(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-very-secret")
    out = place.workspace / "it.mcpb"
    made = place.corral(
        *("mcp", "bundle", "files", "-o", str(out), "-e", "OPENAI_API_KEY"),
        *("--server-json", "io.github.me/corral", "--url", "https://example.com/it.mcpb"),
    )
    assert made.code == 0, made.err
    with zipfile.ZipFile(out) as archive:
        assert sorted(archive.namelist()) == ["manifest.json", "server/start.py"]
        text = archive.read("manifest.json").decode()
    manifest = json.loads(text)
    assert manifest["version"] == VERSION
    assert "read_file" in {tool["name"] for tool in manifest["tools"]}
    assert manifest["user_config"]["openai_api_key"]["sensitive"] is True
    assert "very-secret" not in text
    assert str(Path.home()) not in text
    assert str(place.workspace) not in text
    entry = json.loads((place.workspace / "server.json").read_text())
    (package,) = entry["packages"]  # of PyPI none: nobody has said that one is theirs
    assert package["identifier"] == "https://example.com/it.mcpb"
    assert len(package["fileSha256"]) == 64

    assert place.corral("mcp", "bundle", "files", "--server-json", "corral").code == 2
    assert place.corral("mcp", "bundle", "files", "-e", "A=b").code == 2
    assert "There is: agents" in place.corral("mcp", "bundle", "fils").err
    nowhere = place.corral("mcp", "bundle", "files", "-o", str(place.home / "none" / "x.mcpb"))
    assert (nowhere.code, "x.mcpb cannot be written: No such" in nowhere.err) == (2, True)


def test_the_registry_is_told_of_no_package_that_is_not_the_users(place: Place) -> None:
    name = ("--server-json", "io.github.me/corral")
    bare = place.corral("mcp", "bundle", "files", *name)
    assert bare.code == 2
    assert "(--url URL), or a package of yours on PyPI (--package NAME)" in bare.err
    for odd in (("--package", "corral"), (*name, "--package", "no name")):
        assert place.corral("mcp", "bundle", "files", *odd).code == 2
    assert list(place.workspace.glob("*.mcpb")) == []
    mine = place.corral("mcp", "bundle", "files", *name, "--package", "my-corral")
    assert mine.code == 0, mine.err
    assert "mcp-name: io.github.me/corral" in mine.err
    (package,) = json.loads((place.workspace / "server.json").read_text())["packages"]
    assert (package["registryType"], package["identifier"]) == ("pypi", "my-corral")


def test_what_a_bundle_starts_is_the_corral_that_is_there(tmp_path: Path) -> None:
    program = tmp_path / "corral"
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    start = [sys.executable, str(bundle_start.__file__)]
    told = subprocess.run(
        [*start, str(program), "/w s", "agents"], capture_output=True, text=True, check=True
    )
    assert told.stdout == "--workspace /w s mcp serve agents\n"
    env = {**os.environ, "HOME": str(tmp_path), "PATH": "/nowhere"}
    none = subprocess.run(
        [*start, "/no/corral", "/w", "agents"], capture_output=True, text=True, env=env, check=False
    )
    assert none.returncode == 1
    assert "Install Corral" in none.stderr
