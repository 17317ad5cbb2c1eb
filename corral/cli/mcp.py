"""Tool servers: the configured ones, and ours on standard input and output."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current, open_runtime, wait
from corral.cli.output import console, emit_all, note
from corral.cli.render import servers_table
from corral.errors import NotFoundError, SandboxError

if TYPE_CHECKING:
    from corral.runtime.views import ServerView

app = typer.Typer(
    name="mcp", help="The MCP servers that agents use, and ours for others.", rich_markup_mode=None
)


@app.command("list")
def list_(
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> int:
    """Start the configured servers and list their tools. Exits 1 when one has a problem."""
    servers = wait(_servers())
    if json:
        emit_all(servers)
    elif servers:
        console().print(servers_table(servers))
    else:
        note("No server is configured. Add one to corral.toml under [mcp.NAME].")
    return 1 if any(server.error for server in servers) else 0


async def _servers() -> list[ServerView]:
    async with open_runtime() as corral:
        return await corral.servers()


@app.command()
def serve(
    name: Annotated[str, typer.Argument(metavar="NAME", help="files or python.")],
) -> None:
    """Serve our files or python server on stdio, in the sandbox, for any MCP client."""
    from corral.sandbox.registry import select_backend
    from corral.tools.builtin import BUILTIN_SERVERS, builtin_command

    if name not in BUILTIN_SERVERS:
        near = get_close_matches(name, BUILTIN_SERVERS, n=1)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise NotFoundError(
            f"There is no server of ours named {name}.",
            hint=f"{meant}There are: {', '.join(BUILTIN_SERVERS)}.",
        )
    settings = current().settings()
    argv, profile = builtin_command(name, settings.workspace)
    launch = select_backend(settings.sandbox).launch(argv, profile)
    sys.stdout.flush()
    try:
        os.execve(launch.argv[0], launch.argv, dict(launch.env))  # noqa: S606  # no shell, on purpose
    except OSError as error:
        raise SandboxError(
            f"{launch.argv[0]} could not be started: {error.strerror}",
            hint="Run: corral doctor",
        ) from error
