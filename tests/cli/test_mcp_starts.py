"""``corral mcp serve SERVER``: a start that is remembered, and all that has it found out anew."""

from __future__ import annotations

import http.server
import json
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mcp import Client, StdioServerParameters

from corral.cli.mcp.served import TOOLS
from corral.tools.settings import BUILTIN_SERVERS
from tests.cli.place import Place

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only bubblewrap's starts are remembered"
)

SHORT = "the short way\n"


@pytest.fixture(autouse=True)
def user(place: Place, tmp_path: Path) -> Path:
    """The home folder of a user who has configured nothing."""
    folder = tmp_path / "user"
    folder.mkdir()
    place.env.update(HOME=str(folder), PYTHONUSERBASE=str(folder / ".local"))
    place.env.pop("XDG_CONFIG_HOME", None)
    return folder


def greeting(place: Place, what: str) -> str:
    """What a server says to a client that greets it and goes."""
    hello = {"protocolVersion": "2025-11-25"}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
    ran = subprocess.run(
        place.command("mcp", "serve", what),
        env=place.env,
        cwd=place.workspace,
        input=json.dumps(asked) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout + ran.stderr


def remembered(place: Place, what: str) -> list[Path]:
    return list((place.home / "starts").glob(f"*-{what}.json"))


def started(place: Place, what: str) -> Path:
    """A first start, which is remembered. Another command is put in its place there.

    So what is remembered is seen to be what is started.
    """
    assert "serverInfo" in greeting(place, what)
    [file] = remembered(place, what)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    start = json.loads(file.read_text())
    start["start"][0] = ["/bin/echo", SHORT.strip()]
    file.write_text(json.dumps(start))
    return file


def test_the_command_knows_our_tool_servers_by_their_names() -> None:
    assert set(TOOLS) == set(BUILTIN_SERVERS)


@pytest.mark.parametrize("what", TOOLS)
def test_the_second_start_of_a_tool_server_goes_the_short_way(place: Place, what: str) -> None:
    started(place, what)
    assert greeting(place, what) == SHORT


@pytest.mark.slow
@pytest.mark.parametrize("change", ["protected", "link", "settings", "others", "old", "broken"])
def test_a_start_that_does_not_hold_any_more_is_found_out_anew(place: Place, change: str) -> None:
    file = started(place, "files")
    match change:
        case "protected":
            (place.workspace / ".git").mkdir()
        case "link":
            (place.workspace / ".corral").symlink_to("/etc")
        case "settings":
            (place.workspace / "corral.toml").write_text("servers = []\n")
        case "others":
            file.chmod(0o644)
        case "old":
            os.utime(file, (1, 1))
        case _:
            file.write_text("{")
    assert "serverInfo" in greeting(place, "files")


@pytest.mark.slow
def test_programs_that_are_elsewhere_have_a_start_found_out_anew(
    place: Place, tmp_path: Path
) -> None:
    started(place, "files")
    place.env["PATH"] = f"{tmp_path}:{place.env['PATH']}"
    assert "serverInfo" in greeting(place, "files")


@pytest.mark.slow
def test_what_nobody_believes_any_more_is_removed(place: Place) -> None:
    file = started(place, "files")
    os.utime(file, (1, 1))
    assert "serverInfo" in greeting(place, "shell")
    assert not file.exists()


def _author(user: Path) -> str:
    (user / ".gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    return "Ada <ada@example.org>"


def _author_elsewhere(user: Path) -> str:
    (user / ".config" / "git").mkdir(parents=True)
    (user / ".config" / "git" / "config").write_text("[user]\n\tname = Bo\n\temail = b@b.org\n")
    return "Bo <b@b.org>"


@pytest.mark.slow
@pytest.mark.parametrize("configure", [_author, _author_elsewhere])
def test_git_is_started_for_whom_the_users_own_git_names_now(
    place: Place, user: Path, configure: Callable[[Path], str]
) -> None:
    file = started(place, "git")
    author = configure(user)
    assert "serverInfo" in greeting(place, "git")
    assert author in file.read_text()


@pytest.mark.slow
def test_git_is_started_anew_once_there_is_a_repository(place: Place) -> None:
    started(place, "git")
    subprocess.run(["git", "init", "-q"], cwd=place.workspace, env=place.env, check=True)
    assert "serverInfo" in greeting(place, "git")


@pytest.mark.slow
def test_python_is_started_with_the_packages_that_are_there_now(place: Place) -> None:
    place.env["CORRAL_PYTHON__PACKAGES"] = '["shapes"]'
    file = started(place, "python")
    layer = place.home / "packages" / "0123456789abcdef"
    layer.mkdir()
    python = f"{sys.implementation.name}-{sys.version_info[0]}.{sys.version_info[1]}"
    kept = {"python": python, "requested": ["shapes"], "installed": {"shapes": "1.0"}}
    (layer / "layer.json").write_text(json.dumps(kept))
    assert "serverInfo" in greeting(place, "python")
    assert str(layer) in file.read_text()


@pytest.mark.slow
def test_sql_is_started_with_the_files_that_are_there_now(place: Place, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    place.env["CORRAL_SQL"] = json.dumps({"books": {"path": str(folder / "books.db")}})
    started(place, "sql")
    folder.mkdir()
    assert "serverInfo" in greeting(place, "sql")


@pytest.mark.slow
@pytest.mark.parametrize("what", ["web", "sql"])
def test_a_library_that_is_installed_since_is_looked_for(
    place: Place, user: Path, what: str
) -> None:
    started(place, what)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (user / ".local" / "lib" / version / "site-packages").mkdir(parents=True)
    assert "serverInfo" in greeting(place, what)


@pytest.mark.slow
def test_what_serves_over_http_imports_no_agents(place: Place) -> None:
    code = (
        "import sys\n"
        "import corral.cli.main, corral.runtime.config\n"
        "import corral.mcp_servers.agents.opening, corral.mcp_servers.serving.http\n"
        "heavy = ('langgraph', 'langchain_core', 'sqlalchemy', 'openai', 'llama_cpp')\n"
        "sys.exit(repr([name for name in heavy if name in sys.modules] or ''))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], env=place.env, capture_output=True, text=True, check=False
    )
    assert ran.stderr.strip() == "''"


SECRETS = {
    "web": {
        "CORRAL_WEB__SEARCH": '{"provider": "brave", "api_key_env": "MY_SECRET"}',
        "MY_SECRET": "key-0451",
    },
    "sql": {
        "CORRAL_SQL": '{"db": {"url_env": "MY_SECRET"}}',
        "MY_SECRET": "postgresql://me:key-0451@localhost/db",
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("what", SECRETS)
def test_what_needs_a_secret_is_not_remembered(place: Place, what: str) -> None:
    place.env.update(SECRETS[what])
    assert "serverInfo" in greeting(place, what)
    assert not remembered(place, what)


class Page(http.server.BaseHTTPRequestHandler):
    """One page."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"It is read through the proxy.")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def page() -> Iterator[str]:
    """Where the page is."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


async def fetched(place: Place, url: str) -> str:
    argv = place.command("mcp", "serve", "web")
    server = StdioServerParameters(
        command=argv[0], args=argv[1:], env=place.env, cwd=str(place.workspace)
    )
    async with Client(server) as client:
        return str((await client.call_tool("fetch", {"url": url})).content)


@pytest.mark.slow
async def test_a_remembered_start_reaches_what_the_settings_let_it_and_no_more(
    place: Place, page: str
) -> None:
    place.env["CORRAL_WEB__PRIVATE"] = json.dumps([page])
    file = started(place, "web")
    assert greeting(place, "web") == SHORT
    file.unlink()
    for _ in range(2):  # the second is remembered
        assert "through the proxy" in await fetched(place, f"http://{page}/")
        assert "[web]" in await fetched(place, "http://localhost:9/")
    place.env["CORRAL_WEB__PRIVATE"] = "[]"
    assert "through the proxy" not in await fetched(place, f"http://{page}/")
