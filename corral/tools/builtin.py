"""How our own tool servers are started: the command and what its sandbox is granted.

The servers stand a floor above and are files to this module, not imports.
"""

from __future__ import annotations

import compileall
import sys
from functools import cache
from pathlib import Path

from corral.errors import NotFoundError
from corral.sandbox.contract import Grant, Limits, Profile

BUILTIN_SERVERS: tuple[str, ...] = ("files", "python", "shell", "web", "sql", "git")
"""The names of the servers that come with Corral."""

_SERVERS = Path(__file__).resolve().parent.parent / "mcp_servers"
_PROTECTED = (".git", "corral.toml")
_LIMITS = Limits(cpu_seconds=3600)


def builtin_command(name: str, workspace: Path) -> tuple[tuple[str, ...], Profile]:
    """The command of one of our servers and its sandbox, with ``workspace`` to work in.

    Inside the workspace git's own folder and Corral's configuration stay read-only: what is
    written there would run outside, at the next ``git`` or ``corral``. Raises
    ``NotFoundError`` for a name that is not in ``BUILTIN_SERVERS``.
    """
    if name not in BUILTIN_SERVERS:
        raise NotFoundError(
            f"There is no built-in server {name!r}.",
            hint=f"There are: {', '.join(BUILTIN_SERVERS)}.",
        )
    _compile()
    folder = Path.cwd() / workspace
    grants = [Grant(folder, writable=True), Grant(_SERVERS)]
    grants += [Grant(folder / kept) for kept in _PROTECTED if _is_real(folder / kept)]
    base = getattr(sys, "_base_executable", "") or sys.executable
    command = (str(Path(base).resolve()), "-I", "-S", str(_SERVERS), name, "--root", str(folder))
    return command, Profile(grants=tuple(grants), workdir=folder, limits=_LIMITS)


@cache
def _compile() -> None:
    """Write the servers' bytecode: inside, their folder is read-only and each start would compile.

    Where it is read-only here as well, they start without, some 50 ms later.
    """
    compileall.compile_dir(_SERVERS, maxlevels=0, quiet=2)


def _is_real(path: Path) -> bool:
    return path.exists() and not path.is_symlink()
