"""Names that the shell offers to complete: of agents, with what each is for, and of patterns.

The shell shows nothing else: where names cannot be read it offers none.
"""

from __future__ import annotations

from pathlib import Path

import typer

from corral.cli.context import Globals
from corral.cli.output import one_line
from corral.errors import CorralError

Offer = list[tuple[str, str]]
"""Each name with a few words about it."""


def agent_names(ctx: typer.Context, incomplete: str) -> Offer:
    """The agents that there are for a command line with these global options."""
    from corral.agents.files.catalog import find_agents

    try:
        entries = find_agents(_globals(ctx).settings()).entries
    except CorralError:
        return []
    said = ((one.name, one.config.description if one.config else "broken") for one in entries)
    return [(name, one_line(what, 60)) for name, what in said if name.startswith(incomplete)]


def pattern_names(incomplete: str) -> list[str]:
    """The patterns."""
    from corral.agents.patterns.names import NAMES

    return [name for name in NAMES if name.startswith(incomplete)]


def _globals(ctx: typer.Context) -> Globals:
    """What was said before the command's name; nobody has kept it while the shell completes."""
    given: dict[str, Path | None] = ctx.find_root().params
    return Globals(*(given.get(name) for name in ("home", "workspace", "config")))
