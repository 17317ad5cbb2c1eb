"""What the servers ``files`` and ``git`` are started with, beyond the workspace."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

from corral.errors import ConfigError
from corral.sandbox.contract import Grant
from corral.tools.addition import Addition, Basis
from corral.tools.protection import check_inside
from corral.tools.settings import GitSettings

_GIT_SECONDS = 5.0


def files_addition() -> Addition:
    """The ripgrep program, which comes with Corral where there is a wheel of it."""
    own = Path(sysconfig.get_path("scripts"), "rg")
    found = own if own.is_file() else shutil.which("rg")
    if found is None:
        return Addition()  # the server has a worker of its own, which is slower
    program = Path(found).resolve()
    return Addition(config={"rg": str(program)}, grants=(Grant(program),))


def git_addition(settings: GitSettings, folder: Path) -> Addition:
    """Who makes the commits (``[git]`` says so, else the user's own git), and the repository.

    Its files can be read, and git's own folder written: the server changes no file.
    """
    own = folder / ".git"
    real = own.is_dir() and not own.is_symlink()
    return Addition(
        config={"author": settings.author or _author()},
        grants=(Grant(folder), *((Grant(own, writable=True),) if real else ())),
        alone=True,
        basis=Basis((own,), _user_files()),
    )


def repository_of(settings: GitSettings, workspace: Path) -> Path:
    """The repository's folder. Raises ``ConfigError`` for one that ``[git]`` names and is none."""
    if settings.repository is None:
        return workspace
    folder = Path(os.path.normpath(workspace / settings.repository.expanduser()))
    check_inside(folder, workspace, "[git]")
    if not folder.is_dir():
        raise ConfigError(
            f"The repository {folder} of [git] is no folder.",
            hint="Correct `repository` in your own configuration file, or leave it out.",
        )
    return folder


def _author() -> str:
    """``Name <mail>`` as the user's own git has it; empty when it has none."""
    parts = [_configured(key) for key in ("user.name", "user.email")]
    return f"{parts[0]} <{parts[1]}>" if all(parts) else ""


def _user_files() -> tuple[Path, ...]:
    """The files in which git looks for that."""
    if named := os.environ.get("GIT_CONFIG_GLOBAL"):
        return (Path(named),)
    users = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return (Path(users, "git", "config"), Path.home() / ".gitconfig")


def _configured(key: str) -> str:
    command = ("git", "config", "--global", "--get", key)
    try:
        done = subprocess.run(
            command, capture_output=True, check=False, text=True, timeout=_GIT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()
