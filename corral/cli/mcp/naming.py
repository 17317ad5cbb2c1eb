"""The names of tool servers: whether there is one, before anything heavy is imported for it."""

from __future__ import annotations

from collections.abc import Collection
from difflib import get_close_matches

from corral.cli.context import current
from corral.cli.output import one_line
from corral.errors import NotFoundError


def require_server(name: str, *more: str) -> None:
    """Raise ``NotFoundError`` for what is neither configured, nor one of ours, nor of ``more``."""
    from corral.tools.settings import BUILTIN_SERVERS  # pydantic: not needed for --help

    known = (*BUILTIN_SERVERS, *current().settings().mcp, *more)
    require_known(name, known, f"There is no tool server named {one_line(name)}.")


def require_known(name: str, known: Collection[str], message: str) -> None:
    """Raise ``NotFoundError`` with ``message`` for a name that is none of these."""
    if name in known:
        return
    near = get_close_matches(name, known, n=1)
    meant = f"Did you mean {near[0]}? " if near else ""
    raise NotFoundError(message, hint=f"{meant}There is: {', '.join(known) or 'none'}.")
