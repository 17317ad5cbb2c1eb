"""How our own tool servers are started: the command and what its sandbox is granted.

The servers stand a floor above and are files to this module, not imports.
"""

from __future__ import annotations

import compileall
import json
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

from corral.errors import NotFoundError
from corral.sandbox.contract import Grant, Limits, Profile
from corral.tools.addition import Addition, Basis
from corral.tools.local_servers import files_addition, git_addition, repository_of
from corral.tools.networked import Sandboxed
from corral.tools.protection import PROTECTED, hidden_folders, protected_in
from corral.tools.python import python_addition
from corral.tools.settings import BUILTIN_SERVERS, BuiltinSettings
from corral.tools.sql import sql_addition
from corral.tools.web import web_addition

_CORRAL = Path(__file__).resolve().parent.parent
_SERVERS = _CORRAL / "mcp_servers"
_GUEST = _CORRAL / "sandbox" / "guest"
_LIMITS = Limits(cpu_seconds=3600)
_DEFAULTS = BuiltinSettings()


_ADDITIONS: Mapping[str, Callable[[BuiltinSettings], Addition]] = {
    "files": lambda _settings: files_addition(),
    "python": python_addition,
    "web": lambda settings: web_addition(settings.web),
}


def builtin_command(
    name: str, workspace: Path, settings: BuiltinSettings = _DEFAULTS
) -> tuple[tuple[str, ...], Profile]:
    """The command of one of our servers, and its sandbox. See ``builtin_server``."""
    server = builtin_server(name, workspace, settings)
    return server.argv, server.profile


def builtin_server(name: str, workspace: Path, settings: BuiltinSettings = _DEFAULTS) -> Sandboxed:
    """One of our servers, with ``workspace`` to work in, as ``confined`` starts it.

    Inside the workspace git's own folder and Corral's configuration stay read-only: what is
    written there would run outside, at the next ``git`` or ``corral``. Raises
    ``NotFoundError`` for a name that is not in ``BUILTIN_SERVERS``, and ``ConfigError`` for
    settings that the server cannot be started with.
    """
    if name not in BUILTIN_SERVERS:
        raise NotFoundError(
            f"There is no built-in server {name!r}.",
            hint=f"There are: {', '.join(BUILTIN_SERVERS)}.",
        )
    _compile()
    folder = Path.cwd() / workspace
    folder = repository_of(settings.git, folder) if name == "git" else folder
    added = _added(name, folder, settings)
    changed = [] if added.alone else [Grant(folder, writable=True)]
    changed += [grant for grant in added.grants if grant.writable]
    grants = [*changed, Grant(_SERVERS), Grant(_GUEST), *protected_in(changed)]
    grants += [grant for grant in added.grants if not grant.writable]
    base = getattr(sys, "_base_executable", "") or sys.executable
    command: tuple[str, ...] = (
        str(Path(base).resolve()),
        "-I",
        "-S",
        str(_SERVERS),
        name,
        "--root",
        str(folder),
    )
    if added.config:
        command += ("--config", json.dumps(added.config))
    profile = Profile(
        grants=tuple(grants),
        workdir=None if added.alone else folder,
        limits=settings.limits.over(_LIMITS),
        network=added.network,
        hidden=hidden_folders(settings.home),
    )
    names = [*(grant.path for grant in grants), *profile.hidden]
    names += [grant.path / name for grant in changed for name in PROTECTED]
    basis = Basis((*names, *added.basis.names), added.basis.contents)
    return Sandboxed(command, profile, added.setting or f"[{name}]", added.handlers, basis)


def _added(name: str, folder: Path, settings: BuiltinSettings) -> Addition:
    if name == "sql":
        return sql_addition(settings.sql, folder)
    if name == "git":
        return git_addition(settings.git, folder)
    return _ADDITIONS[name](settings) if name in _ADDITIONS else Addition()


@cache
def _compile() -> None:
    """Write the servers' bytecode: inside, their folder is read-only and each start would compile.

    Where it is read-only here as well, they start without, some 50 ms later.
    """
    for folder in (_SERVERS, _GUEST):
        compileall.compile_dir(folder, maxlevels=1, quiet=2)
