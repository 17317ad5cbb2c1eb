"""From an entry of the configuration to a source of tools.

An external server is someone else's program. It runs in the sandbox, where it sees the system, the
program itself with its interpreter, and what its own entry grants; nothing of it comes for free.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from corral.errors import ToolServerError
from corral.jsontypes import digest
from corral.sandbox.backends.unconfined import UnconfinedBackend
from corral.sandbox.contract import Grant, Launch, Limits, LocalBackend, Profile
from corral.tools.address import Address
from corral.tools.builtin import builtin_server
from corral.tools.config import ServerConfig, check_server_name
from corral.tools.contract import ToolProvider
from corral.tools.http import HttpServer
from corral.tools.networked import Networked, Sandboxed, confined
from corral.tools.oauth.logins import Login, logins_folder
from corral.tools.pinning import Pinning
from corral.tools.pins import PinStore
from corral.tools.protection import check_inside, hidden_folders, protected_in
from corral.tools.python import PythonProvider
from corral.tools.server import McpServer, Standing, Timing
from corral.tools.settings import BuiltinSettings
from corral.tools.stdio import Command, EraStore, Known, StdioServer

_SYSTEM = tuple(Path("/", name) for name in ("usr", "bin", "sbin", "lib", "lib32", "lib64"))
_PATH = ("/usr/local/bin", "/usr/bin", "/bin")
_MAX_INTERPRETERS = 3
_DEFAULTS = BuiltinSettings()
_HINT = (
    "It runs in a sandbox, and sees no files but its own program's: list the folders that it "
    "must read in `grants`, those that it may change in `writable`, and the hosts that it must "
    "reach in `network`."
)


@dataclass(frozen=True)
class Kept:
    """What is kept of servers between processes: what is trusted of them, and which speak an older
    protocol; ``home`` is Corral's own folder, where the logins at them are.
    """

    pins: PinStore | None = None
    eras: EraStore | None = None
    home: Path | None = None

    @property
    def logins(self) -> Path | None:
        """The folder of the logins."""
        return None if self.home is None else logins_folder(self.home)


def builtin_provider(
    name: str,
    sandbox: LocalBackend,
    workspace: Path,
    settings: BuiltinSettings = _DEFAULTS,
) -> ToolProvider:
    """One of our own servers, confined to ``workspace``; its claims about its tools count.

    Nothing is started yet; a name that is not ours gives ``NotFoundError`` at the first use.
    """

    def launch() -> Launch | Networked:
        return confined(sandbox, builtin_server(name, workspace, settings))

    command = Command(launch, is_ours=True)
    server = StdioServer(name, command, standing=Standing(trusted=True))
    return PythonProvider(server, settings, sandbox) if name == "python" else server


def build_provider(
    name: str,
    config: ServerConfig,
    sandbox: LocalBackend,
    workspace: Path,
    environ: Mapping[str, str] | None = None,
    kept: Kept = Kept(),
) -> McpServer:
    """The server that ``config`` describes; nothing is started yet.

    ``environ`` is where ``${VAR}`` and the command are looked up; without it ``config`` has been
    expanded already, and the command is looked up in this process's own environment. The server
    itself gets only the entry's ``env``. Relative folders start at ``workspace``. Raises
    ``ConfigError``.
    """
    check_server_name(name)
    entry = config if environ is None else config.expanded(environ)
    environ = os.environ if environ is None else environ
    timing = Timing(startup=entry.startup_timeout, call=entry.timeout)
    starter = _Starter(name, entry, sandbox, workspace, environ, kept.home)
    standing = Standing(
        trusted=entry.trust,
        pinning=None if kept.pins is None else Pinning(name, kept.pins),
        samples=entry.sampling,
        roots=starter.roots(),
    )
    if entry.url is not None:
        address = Address(entry.url, entry.headers, Login(entry.oauth, kept.logins))
        return HttpServer(name, address, standing=standing, timing=timing)
    known = Known(kept.eras, digest([entry.command, *entry.args]))
    command = Command(starter.launch, known=known)
    if entry.sandbox:
        command = replace(command, hint=_HINT)
    return StdioServer(name, command, standing=standing, timing=timing)


@dataclass(frozen=True)
class _Starter:
    """Makes the launch of one entry, anew for every start: programs come and go."""

    name: str
    entry: ServerConfig
    sandbox: LocalBackend
    workspace: Path
    environ: Mapping[str, str]
    home: Path | None

    def launch(self) -> Launch | Networked:
        """The command line. Raises ``ToolServerError`` and ``SandboxError``."""
        program = self._program()
        argv = (str(program), *self.entry.args)
        if not self.entry.sandbox:
            profile = Profile(workdir=self.workspace, env=self.entry.env)
            return UnconfinedBackend().launch(argv, profile)
        programs = list(_with_interpreters(program, self.environ))
        grants = self._grants(programs)
        folders = [str(one.parent) for one in programs if not _in_system(one)]
        profile = Profile(
            grants=grants,
            workdir=self.workspace if _covers(grants, self.workspace) else None,
            env={"PATH": os.pathsep.join(dict.fromkeys([*folders, *_PATH])), **self.entry.env},
            limits=self.entry.limits.over(Limits()),
            network=self.entry.reach,
            hidden=hidden_folders(self.home),
        )
        return confined(self.sandbox, Sandboxed(argv, profile, f"network of [mcp.{self.name}]"))

    def roots(self) -> tuple[str, ...]:
        """The folders that the entry grants, as addresses."""
        folders = (*self.entry.grants, *self.entry.writable)
        return tuple(dict.fromkeys(self._folder(text).as_uri() for text in folders))

    def _program(self) -> Path:
        command = self.entry.command or ""
        if "/" in command:
            path = self._folder(command)
            found = str(path) if os.access(path, os.X_OK) and path.is_file() else None
        else:
            found = shutil.which(command, path=self.environ.get("PATH", os.defpath))
        if found is None:
            raise ToolServerError(
                f"Tool server {self.name} could not be started: there is no program {command!r}.",
                hint="Install it, or write its whole path in `command`.",
            )
        return Path(found).absolute()

    def _grants(self, programs: Sequence[Path]) -> tuple[Grant, ...]:
        home = Path(self.environ.get("HOME", "/"))
        grants: dict[Path, Grant] = {}
        for program in programs:
            folder = _folder_of(program, home)
            if folder == home or folder in home.parents:
                folder = program  # the file alone: its folder holds everything of the user's
            if not _in_system(folder):
                grants[folder] = Grant(folder)
        for writable, folders in ((False, self.entry.grants), (True, self.entry.writable)):
            for text in folders:
                folder = self._folder(text)
                check_inside(folder, self._folder("."), f"[mcp.{self.name}]")
                grants[folder] = Grant(folder, writable)
        return (*grants.values(), *protected_in(grants.values()))

    def _folder(self, text: str) -> Path:
        home = self.environ.get("HOME")
        path = Path(home, text[2:]) if home and text.startswith("~/") else Path(text)
        return Path(os.path.normpath(self.workspace / path))


def _with_interpreters(program: Path, environ: Mapping[str, str]) -> Iterator[Path]:
    """``program``, what it is a link to, and the interpreters that its first line names."""
    for _ in range(_MAX_INTERPRETERS):
        yield program
        if (real := program.resolve()) != program:
            yield real
        interpreter = _interpreter(real, environ)
        if interpreter is None:
            return
        program = interpreter


def _interpreter(program: Path, environ: Mapping[str, str]) -> Path | None:
    with program.open("rb") as file:
        start = file.read(256)
    if not start.startswith(b"#!"):
        return None
    words = start[2:].split(b"\n")[0].decode("utf-8", "replace").split()
    if words and Path(words[0]).name == "env":
        named = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
        found = shutil.which(named[0], path=environ.get("PATH", os.defpath)) if named else None
        return Path(found).absolute() if found else None
    return Path(words[0]) if words and Path(words[0]).is_file() else None


def _folder_of(program: Path, home: Path) -> Path:
    """What a program needs of its own: its environment or installation, else its folder."""
    prefix = program.parent.parent
    if (prefix / "pyvenv.cfg").is_file():
        return prefix
    shared = prefix in (home, home / ".local") or prefix in home.parents
    if program.parent.name == "bin" and (prefix / "lib").is_dir() and not shared:
        return prefix
    return program.parent


def _in_system(path: Path) -> bool:
    return any(folder == path or folder in path.parents for folder in _SYSTEM)


def _covers(grants: Sequence[Grant], folder: Path) -> bool:
    return any(grant.path == folder or grant.path in folder.parents for grant in grants)
