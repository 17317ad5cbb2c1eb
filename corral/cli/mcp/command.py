"""Tool servers: the configured ones, and ours on standard input and output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import open_runtime, wait
from corral.cli.mcp.serving import serve
from corral.cli.output import console, emit_all, note
from corral.cli.render import servers_table

if TYPE_CHECKING:
    from corral.runtime.views import ServerView

app = typer.Typer(
    name="mcp", help="The MCP servers that agents use, and ours for others.", rich_markup_mode=None
)
app.command()(serve)


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
