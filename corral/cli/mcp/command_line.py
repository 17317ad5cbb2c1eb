"""How another program starts Corral: an absolute command that depends on nothing around it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from corral.cli.context import current
from corral.jsontypes import JsonObject

AGENTS = "agents"
"""What is served when nothing else is said."""


def serve_command(what: str) -> tuple[str, ...]:
    """The command line of ``corral mcp serve WHAT`` on the same state, workspace and settings."""
    given = current()
    home = given.home or os.environ.get("CORRAL_HOME")
    options = (
        ("--home", home),
        ("--workspace", given.workspace or Path.cwd()),
        ("--config", given.config),
    )
    named = [word for flag, value in options if value for word in (flag, str(_absolute(value)))]
    return (*program(), *named, "mcp", "serve", what)


def program() -> tuple[str, ...]:
    """This installation of Corral, as a command."""
    script = Path(sys.executable).with_name("corral")
    if os.access(script, os.X_OK):
        return (str(script),)
    return (sys.executable, "-m", "corral.cli")


def is_ours(entry: JsonObject) -> bool:
    """Whether an entry of a client's file starts Corral's own ``mcp serve``."""
    args = entry.get("args")
    words = args if isinstance(args, list) else []
    return any(pair == ("mcp", "serve") for pair in pairwise(words))


def split_variables(given: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """``NAME=VALUE`` as values, and ``NAME`` alone as variables that are handed on."""
    values = dict(one.split("=", 1) for one in given if "=" in one)
    return values, tuple(one for one in given if "=" not in one)


def left_behind(environ: Mapping[str, str], carried: set[str]) -> list[str]:
    """The variables set here that Corral reads and that would not be there."""
    mine = {name for name in environ if name.startswith("CORRAL_") or name.endswith("_API_KEY")}
    return sorted(mine - carried - {"CORRAL_HOME", "CORRAL_DEBUG"})


def _absolute(path: Path | str) -> Path:
    return Path(path).expanduser().absolute()
