"""Real MCP clients take what ``corral mcp install`` and ``bundle`` write, without any account."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.place import Place
from tests.interop.tools import NodeTools

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONFIG = """\
model = "scripted:unused.yaml"

[agents.clerk]
description = "Knows the orders."
"""


class Client:
    """The programs of others, run in a home folder of their own."""

    def __init__(self, tools: NodeTools, place: Place, home: Path) -> None:
        self._tools, self._place, self.home = tools, place, home

    def run(self, name: str, *args: str, fails: bool = False) -> str:
        """What one command of theirs printed."""
        ran = subprocess.run(
            self._tools.command(name, *args),
            env={**self._tools.env, **self._place.env, "PATH": self._tools.env["PATH"]},
            cwd=self._place.workspace,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=240,
            check=False,
        )
        assert (ran.returncode != 0) is fails, ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture
def client(
    node_tools: NodeTools, place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Client:
    home = tmp_path / "user"
    home.mkdir()
    settings = {"HOME": str(home), "MCP_TIMEOUT": "200000", "DISABLE_TELEMETRY": "1"}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
        place.env[name] = value
    for name in ("CLAUDE_CONFIG_DIR", "CODEX_HOME"):
        monkeypatch.delenv(name, raising=False)
        place.env.pop(name, None)
    (place.workspace / "corral.toml").write_text(CONFIG)
    own = tmp_path / "config" / "corral" / "config.toml"
    own.parent.mkdir(parents=True)
    own.write_text("[serve]\nidle = 1\n")  # nothing of the test stays behind for long
    return Client(node_tools, place, home)


def _install(place: Place, *words: str) -> None:
    done = place.corral("mcp", "install", *words, "--yes")
    assert done.code == 0, done.err


@pytest.mark.parametrize("what", ["files", "agents", "all"])
def test_claude_code_connects(place: Place, client: Client, what: str) -> None:
    (client.home / ".claude.json").write_text('{"mcpServers": {}, "numStartups": 1}')
    _install(place, "claude-code", what)
    name = "corral" if what == "agents" else f"corral-{what}"
    told = client.run("claude", "mcp", "get", name)
    assert "Connected" in told
    assert f"mcp serve {what}" in told
    assert place.corral("mcp", "uninstall", "claude-code", what, "--yes").code == 0
    assert "No MCP servers" in client.run("claude", "mcp", "list")


def test_claude_code_and_corral_change_the_same_file(place: Place, client: Client) -> None:
    client.run("claude", "mcp", "add", "-s", "user", "theirs", "--", "/bin/true")
    _install(place, "claude-code", "files")
    client.run("claude", "mcp", "remove", "-s", "user", "theirs")
    servers = json.loads((client.home / ".claude.json").read_text())["mcpServers"]
    assert list(servers) == ["corral-files"]


def _codex(client: Client) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(client.run("codex", "mcp", "list", "--json"))
    return found


def test_codex_reads_what_is_written(
    place: Place, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.run("codex", "mcp", "add", "theirs", "--env", "K=V", "--", "/bin/true")
    _install(place, "codex", "agents", "-e", "OPENAI_API_KEY", "-e", "A=b")
    monkeypatch.setenv("CORRAL_SERVE__TOKEN_ENV", "TOKEN")
    _install(place, "codex", "--http", "http://127.0.0.1:8000/mcp", "--name", "far")
    _install(place, "codex", "all")
    listed = {one["name"]: one for one in _codex(client)}
    assert set(listed) == {"theirs", "corral", "corral-all", "far"}
    assert listed["corral-all"]["transport"]["args"][-3:] == ["mcp", "serve", "all"]
    transport = listed["corral"]["transport"]
    assert transport["args"][-3:] == ["mcp", "serve", "agents"]
    assert transport["env_vars"] == ["OPENAI_API_KEY"]
    assert listed["corral"]["startup_timeout_sec"] == 30
    assert listed["far"]["transport"]["bearer_token_env_var"] == "TOKEN"

    assert place.corral("mcp", "uninstall", "codex", "--yes").code == 0
    for name in ("far", "corral-all"):
        client.run("codex", "mcp", "remove", name)
    assert [one["name"] for one in _codex(client)] == ["theirs"]


def test_the_doctor_agrees_with_the_clients(place: Place, client: Client) -> None:
    for name in ("claude-code", "codex"):
        _install(place, name, "files")
        told = place.corral("mcp", "doctor", name, "--json")
        assert told.code == 0, told.out
        (tools,) = [line for line in told.lines if line["name"] == "tools"]
        assert "read_file" in tools["detail"]


def test_a_bundle_validates_and_packs(place: Place, client: Client, tmp_path: Path) -> None:
    made = tmp_path / "corral.mcpb"
    done = place.corral("mcp", "bundle", "files", "-o", str(made), "-e", "OPENAI_API_KEY")
    assert done.code == 0, done.err
    unpacked, again = tmp_path / "unpacked", tmp_path / "again.mcpb"
    client.run("mcpb", "unpack", str(made), str(unpacked))
    manifest = str(unpacked / "manifest.json")
    assert "passes" in client.run("mcpb", "validate", manifest)
    client.run("mcpb", "pack", str(unpacked), str(again))
    assert again.stat().st_size > 500
    Path(manifest).write_text(Path(manifest).read_text().replace('"entry_point"', '"entry"'))
    client.run("mcpb", "validate", manifest, fails=True)


@contextmanager
def _served(place: Place, *words: str) -> Iterator[str]:
    """The address of ``corral mcp serve WORDS --http``."""
    with subprocess.Popen(
        place.command("mcp", "serve", *words, "--http"),
        env=place.env,
        cwd=place.workspace,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"at (http://\S+)", line):
                    yield found[1]
                    break
            else:
                raise AssertionError("it did not say where it is")
        finally:
            process.send_signal(signal.SIGINT)


def test_claude_code_connects_over_http(
    place: Place, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"CORRAL_SERVE__TOKEN_ENV": "TOKEN", "TOKEN": "t" * 40}.items():
        monkeypatch.setenv(name, value)
        place.env[name] = value
    with _served(place, "files") as url:
        _install(place, "claude-code", "--http", url)
        assert "Connected" in client.run("claude", "mcp", "get", "corral")
        assert place.corral("mcp", "doctor", "claude-code").code == 0
        monkeypatch.setenv("TOKEN", "wrong")
        told = place.corral("mcp", "doctor", "claude-code")
        assert "the token is missing or is not the server's" in told.out
