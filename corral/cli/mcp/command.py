"""Tool servers: the configured ones, and ours on standard input and output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import open_runtime, wait
from corral.cli.mcp.bundling import bundle
from corral.cli.mcp.examining import doctor
from corral.cli.mcp.importing import import_
from corral.cli.mcp.inspecting import inspect, test, trust
from corral.cli.mcp.installing import install, uninstall
from corral.cli.mcp.login import login, logout
from corral.cli.mcp.managing import add, remove
from corral.cli.mcp.serving import serve
from corral.cli.output import console, emit_all, note
from corral.cli.render import servers_table

if TYPE_CHECKING:
    from corral.runtime.views import ServerView

app = typer.Typer(
    name="mcp", help="The MCP servers that agents use, and ours for others.", rich_markup_mode=None
)
app.command()(serve)
app.command()(add)
app.command()(remove)
app.command()(inspect)
app.command()(test)
app.command()(trust)
app.command("import")(import_)
app.command()(install)
app.command()(uninstall)
app.command()(doctor)
app.command()(bundle)
app.command()(login)
app.command()(logout)


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
        note("No server is configured. Add one: corral mcp add NAME -- COMMAND")
    return 1 if any(server.error for server in servers) else 0


async def _servers() -> list[ServerView]:
    async with open_runtime() as corral:
        return await corral.servers()
