"""Logging in at a server that is reached over HTTP, and out again."""

from __future__ import annotations

import os
import webbrowser
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current, wait
from corral.cli.mcp.naming import require_known
from corral.cli.output import clean, note, one_line
from corral.errors import UsageError

if TYPE_CHECKING:
    from corral.tools.config import ServerConfig
    from corral.tools.oauth.logins import LoginFile

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A server with a url.")]


def login(
    name: NameArgument,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Only show the address to open.")
    ] = False,
) -> None:
    """Log in at a server with the browser. The tokens are kept in a file that only you can read."""
    entry, file = _server(name)
    if entry.oauth.unattended:
        raise UsageError(
            f"{name} is logged in at without a person (oauth.unattended).",
            hint="It needs no `corral mcp login`.",
        )

    import asyncio  # not needed for --help

    async def show(url: str) -> None:
        note("Log in here; this waits until you come back:")
        note(clean(url))
        if not no_browser:  # in a thread: one in a terminal returns when it is left
            asyncio.get_running_loop().run_in_executor(None, webbrowser.open, url)

    async def work() -> None:
        from corral.tools.oauth.login import log_in  # heavy: the MCP SDK

        await log_in(file, entry.oauth, show)

    wait(work())
    note(f"logged in at {name}")


def logout(name: NameArgument) -> None:
    """Forget the login at a server. What its provider has issued ends there, not here."""
    _, file = _server(name)
    was_there = wait(file.remove())
    note(f"logged out of {name}" if was_there else f"nobody was logged in at {name}")


def _server(name: str) -> tuple[ServerConfig, LoginFile]:
    from corral.tools.oauth.logins import LoginFile, logins_folder

    settings = current().settings()
    if name not in settings.mcp:
        reached = [one for one, entry in settings.mcp.items() if entry.url]
        require_known(name, reached, f"There is no server named {one_line(name)} to log in at.")
    entry = settings.mcp[name].expanded(os.environ)
    if entry.url is None:
        raise UsageError(
            f"{name} is a command: there is nowhere to log in.",
            hint="Give it what it needs in env.",
        )
    return entry, LoginFile(logins_folder(settings.home), name, entry.url)
