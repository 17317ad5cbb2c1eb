"""From a configuration entry to a server that runs, in the real sandbox and without one."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from corral.errors import ConfigError, ToolServerError
from corral.sandbox.contract import Grant, Launch, Profile
from corral.sandbox.registry import select_backend
from corral.tools.builder import Kept, build_provider, builtin_provider
from corral.tools.builtin import builtin_command
from corral.tools.config import ServerConfig
from corral.tools.contract import ToolProvider
from corral.tools.http import HttpServer
from corral.tools.settings import BuiltinSettings
from corral.tools.stdio import StdioServer
from tests.tools.support import OPTIONS, SERVERS, alive

Build = Callable[..., ToolProvider]
INTERPRETER = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()


class Recorder:
    """A sandbox that keeps the profile and runs the command unconfined."""

    name = "recorder"

    def __init__(self) -> None:
        self.argv: tuple[str, ...] = ()
        self.profile = Profile()

    def launch(self, argv: tuple[str, ...], profile: Profile) -> Launch:
        self.argv, self.profile = argv, profile
        return Launch(argv, profile.env)

    def probe(self) -> Any:
        raise NotImplementedError


@pytest.fixture
async def build(tmp_path: Path) -> AsyncIterator[Build]:
    async with AsyncExitStack() as stack:

        def made(entry: ServerConfig, sandbox: Any = None, **environ: str) -> ToolProvider:
            known = {"PATH": os.environ["PATH"], "HOME": str(tmp_path / "home"), **environ}
            backend = sandbox or select_backend()
            provider = build_provider("ext", entry, backend, tmp_path / "work", known)
            stack.push_async_callback(provider.aclose)
            return provider

        (tmp_path / "work").mkdir()
        (tmp_path / "home").mkdir()
        yield made


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The lean server as a program of its own, named by its first line."""
    folder = tmp_path / "tools" / "lean"
    folder.mkdir(parents=True)
    path = folder / "lean-server"
    text = (SERVERS / "hostile.py").read_text()
    path.write_text(f"#!{INTERPRETER} -S\n{text}")
    path.chmod(0o755)
    return path


async def test_an_external_server_in_the_sandbox(
    build: Build, program: Path, tmp_path: Path
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "home" / "diary").write_text("private")
    entry = ServerConfig(
        command=str(program),
        args=("plain",),
        env={"TOKEN": "${SECRET}"},
        writable=("../data",),
    )
    server = build(entry, SECRET="s3cret", OTHER="not for it")
    seen = json.loads((await server.call("environment", {}, OPTIONS)).text)
    assert seen["TOKEN"] == "s3cret"
    assert "not for it" not in seen.values()
    assert str(program.parent) in seen["PATH"].split(os.pathsep)

    async def exists(path: Path) -> bool:
        return (await server.call("look", {"path": str(path)}, OPTIONS)).text == "True"

    assert await exists(program)
    assert await exists(tmp_path / "data")
    assert not await exists(tmp_path / "home" / "diary")
    assert not await exists(tmp_path / "work")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert (await server.call("connect", {"port": port}, OPTIONS)).text == "False"
    written = await server.call("write", {"path": str(tmp_path / "data" / "x")}, OPTIONS)
    assert not written.is_error
    assert (tmp_path / "data" / "x").read_text() == "written"
    assert isinstance(server, StdioServer)
    pid = server.pid
    await server.aclose()
    assert pid is not None
    assert not alive(pid)


async def test_our_own_server_in_the_sandbox(tmp_path: Path) -> None:
    server = builtin_provider("files", select_backend(), tmp_path)
    try:
        specs = {spec.tool: spec for spec in await server.list_tools()}
        assert {"read_file", "write_file"} <= set(specs)
        assert specs["read_file"].trusted
        assert specs["read_file"].read_only
    finally:
        await server.aclose()


async def test_without_the_sandbox_by_explicit_wish(
    build: Build, program: Path, tmp_path: Path
) -> None:
    entry = ServerConfig(command=str(program), args=("plain",), sandbox=False, env={"A": "b"})
    seen = json.loads((await build(entry).call("environment", {}, OPTIONS)).text)
    assert seen["A"] == "b"
    assert seen["cwd"] == str(tmp_path / "work")


async def test_what_is_granted_is_the_program_and_the_entry_s_own(
    build: Build, program: Path, tmp_path: Path
) -> None:
    sandbox = Recorder()
    entry = ServerConfig(
        command="lean-server",
        args=("plain",),
        grants=("~/notes", "/srv/data"),
        writable=(".",),
    )
    await build(entry, sandbox, PATH=f"{program.parent}{os.pathsep}/usr/bin").list_tools()
    assert sandbox.argv == (str(program), "plain")
    grants = set(sandbox.profile.grants)
    assert {
        Grant(program.parent),
        Grant(tmp_path / "home" / "notes"),
        Grant(Path("/srv/data")),
        Grant(tmp_path / "work", writable=True),
    } <= grants
    assert sandbox.profile.workdir == tmp_path / "work"
    extra = {grant.path for grant in grants} - {tmp_path / "work", program.parent}
    extra -= {tmp_path / "home" / "notes", Path("/srv/data")}
    assert all(INTERPRETER.is_relative_to(path) for path in extra), "besides, its interpreter"


async def test_what_git_and_corral_would_run_outside_stays_as_it_is(
    build: Build, program: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    (work / ".git").mkdir()
    (work / ".corral").mkdir()
    (work / "corral.toml").touch()
    path = f"{program.parent}{os.pathsep}/usr/bin"

    async def grants(*writable: str) -> set[Grant]:
        sandbox = Recorder()
        entry = ServerConfig(command="lean-server", args=("plain",), writable=writable)
        await build(entry, sandbox, PATH=path).list_tools()
        return set(sandbox.profile.grants)

    kept = {Grant(work / name) for name in (".git", ".corral", "corral.toml")}
    assert {Grant(work, writable=True), *kept} <= await grants(".")
    asked = await grants(".", ".git")
    assert Grant(work / ".git", writable=True) in asked, "the user's own words count"
    assert Grant(work / "corral.toml") in asked


@pytest.mark.parametrize("key", ["grants", "writable"])
async def test_a_granted_folder_that_has_become_a_link_opens_nothing(
    build: Build, program: Path, tmp_path: Path, key: str
) -> None:
    """Code in the workspace could put it there, before the server starts again."""
    path = f"{program.parent}{os.pathsep}/usr/bin"
    entry = ServerConfig(command="lean-server", args=("plain",), **{key: ("data",)})
    (tmp_path / "work" / "data").mkdir()
    sandbox = Recorder()
    await build(entry, sandbox, PATH=path).list_tools()
    assert tmp_path / "work" / "data" in {grant.path for grant in sandbox.profile.grants}
    (tmp_path / "work" / "data").rmdir()
    (tmp_path / "work" / "data").symlink_to(tmp_path / "home")
    with pytest.raises(ConfigError, match="leads out of the workspace"):
        await build(entry, sandbox, PATH=path).list_tools()


async def test_a_program_in_the_home_folder_does_not_open_it(
    build: Build, program: Path, tmp_path: Path
) -> None:
    sandbox = Recorder()
    at_home = tmp_path / "home" / "server"
    program.rename(at_home)
    await build(ServerConfig(command="~/server", args=("plain",)), sandbox).list_tools()
    paths = {grant.path for grant in sandbox.profile.grants}
    assert at_home in paths
    assert tmp_path / "home" not in paths


async def test_a_virtual_environment_is_readable_as_a_whole(build: Build, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    (venv / "bin").mkdir(parents=True)
    (venv / "pyvenv.cfg").write_text(f"home = {INTERPRETER.parent}\n")
    (venv / "bin" / "python").symlink_to(INTERPRETER)
    sandbox = Recorder()
    script = str(SERVERS / "hostile.py")
    entry = ServerConfig(command=str(venv / "bin" / "python"), args=(script, "plain"))
    await build(entry, sandbox).list_tools()
    assert sandbox.argv[0] == str(venv / "bin" / "python")
    assert Grant(venv) in sandbox.profile.grants


async def test_a_missing_program_is_told_at_the_first_use(build: Build) -> None:
    server = build(ServerConfig(command="no-such-server"))
    with pytest.raises(ToolServerError, match="no program 'no-such-server'") as caught:
        await server.list_tools()
    assert caught.value.hint


async def test_a_script_that_the_sandbox_hides_is_explained(build: Build, tmp_path: Path) -> None:
    hidden = tmp_path / "hidden.py"
    hidden.write_text("print('hello')")
    server = build(ServerConfig(command=str(INTERPRETER), args=(str(hidden),)))
    with pytest.raises(ToolServerError, match="No such file") as caught:
        await server.list_tools()
    assert "`grants`" in caught.value.hint


def test_a_url_and_a_missing_variable(build: Build) -> None:
    entry = ServerConfig(url="http://127.0.0.1:9/mcp", headers={"Authorization": "${KEY}"})
    assert isinstance(build(entry, KEY="x"), HttpServer)
    with pytest.raises(ConfigError, match="KEY"):
        build(entry)


async def test_corrals_own_folder_is_not_seen_where_the_workspace_holds_it(
    program: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    home = work / ".local" / "corral"
    home.mkdir(parents=True)
    _, ours = builtin_command("files", work, BuiltinSettings(home=home))
    _, read = builtin_command("git", work, BuiltinSettings(home=home))
    assert ours.hidden == read.hidden == (home,)

    sandbox: Any = Recorder()
    entry = ServerConfig(command=str(program), args=("plain",), writable=(".",))
    server = build_provider("lean", entry, sandbox, work, kept=Kept(home=home))
    try:
        await server.list_tools()
    finally:
        await server.aclose()
    assert sandbox.profile.hidden == (home,)
