"""``corral mcp install`` and ``uninstall``: our entry in the files of MCP clients."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corral.cli.context import current
from corral.cli.mcp.asking import confirm
from corral.cli.mcp.command_line import (
    AGENTS,
    is_ours,
    left_behind,
    serve_command,
    split_variables,
)
from corral.cli.options import taking
from corral.cli.output import clean, console, note
from corral.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from corral.cli.mcp.clients.files import Change, ConfigFile
    from corral.cli.mcp.clients.known import Client, Places, Scope, Served
    from corral.jsontypes import JsonObject

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def _client_names(incomplete: str) -> list[str]:
    """The clients, for the shell to complete."""
    from corral.cli.mcp.clients.known import CLIENTS

    return [client.name for client in CLIENTS if client.name.startswith(incomplete)]


ClientArgument = Annotated[
    str,
    typer.Argument(
        metavar="CLIENT",
        help="claude-desktop, claude-code, cursor, vscode or codex.",
        autocompletion=_client_names,
    ),
]
WhatArgument = Annotated[
    str, typer.Argument(metavar="agents|all|NAME", help="What it is to offer.")
]
ScopeOption = Annotated[
    Literal["user", "project"],
    typer.Option(help="In your own settings, or in those of this folder."),
]
NameOption = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="The entry's name; corral if left out.")
]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Only show what would be changed.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True)
class InstallOptions:
    """What of Corral a client is to have, and where that is written down."""

    what: WhatArgument = AGENTS
    scope: ScopeOption = "user"
    name: NameOption = None
    http: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Reach a `mcp serve --http` there, and start nothing."),
    ] = None
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env", "-e", metavar="NAME[=VALUE]", help="A variable to hand on, or its value."
        ),
    ] = None
    dry_run: DryRunOption = False
    print_: Annotated[
        bool, typer.Option("--print", help="Only print the entry, to be put in by hand.")
    ] = False
    yes: YesOption = False

    @property
    def called(self) -> str:
        """The entry's name."""
        return self.name or _name(self.what)

    @property
    def served(self) -> Served:
        """What the client is to start or reach. Raises ``UsageError`` and ``NotFoundError``."""
        env = self.env or ()
        return _remote(self.http, env) if self.http else _local(self.what, env)


@taking(InstallOptions)
def install(client: ClientArgument, options: InstallOptions) -> None:
    """Let an MCP client use Corral.

    Writes an entry into the client's own file. Shows the change and asks. What else is in the file
    stays as it is, and a backup is kept.
    """
    from corral.cli.mcp.clients.known import find_client

    known, called = find_client(client), options.called
    if options.http:
        known.require_remote()
    served = options.served
    entry = known.entry(served)
    if options.print_:
        _print(known, called, entry, served)
        return
    file = _file(known, options.scope)
    theirs = file.entries.get(called)
    if theirs is not None and not (is_ours(theirs) or theirs.get("url") == served.url):
        raise UsageError(
            f"{file.path} has another server named {called}.",
            hint="Give ours another name: --name NAME. Or take that one out first, if it is ours "
            "at another address: corral mcp uninstall. Nothing was changed.",
        )
    change = file.with_entry(called, entry, known.asks_for(served))
    _warn(known, served)
    if change.is_none:
        note(f"{file.path} has it already.")
    elif _carry_out(change, dry_run=options.dry_run, yes=options.yes):
        note(known.after)
        note(f"Check it with: {current().command('mcp', 'doctor', known.name)}")


def uninstall(
    client: ClientArgument,
    what: WhatArgument = AGENTS,
    scope: ScopeOption = "user",
    name: NameOption = None,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Take our entry out of a client's file again."""
    from corral.cli.mcp.clients.known import find_client

    file = _file(find_client(client), scope)
    called = name or _name(what)
    entry = file.entries.get(called)
    if entry is None:
        there = [each for each, one in file.entries.items() if is_ours(one)]
        raise NotFoundError(
            f"{file.path} has no server named {called}.",
            hint=f"Of ours there is: {', '.join(there)}. Name one with --name."
            if there
            else "There is nothing of ours in it.",
        )
    if not is_ours(entry) and "url" not in entry:
        raise UsageError(
            f"{called} in {file.path} does not start Corral.", hint="Take it out by hand."
        )
    _carry_out(file.without_entry(called), dry_run=dry_run, yes=yes)


def places() -> Places:
    """Where clients' files are looked for."""
    from corral.cli.mcp.clients.known import Places

    return Places(Path.home(), current().workspace or Path.cwd())


def _file(client: Client, scope: Scope) -> ConfigFile:
    from corral.cli.mcp.clients.files import ConfigFile

    return ConfigFile.read(client.file(places(), scope), client.section, client.syntax)


def _name(what: str) -> str:
    return "corral" if what == AGENTS else f"corral-{what}"


def require_ours(what: str) -> None:
    """Raise ``NotFoundError`` for what Corral does not serve."""
    from corral.tools.settings import BUILTIN_SERVERS  # pydantic: not needed for --help

    known = (AGENTS, "all", *BUILTIN_SERVERS, "memory")
    if what not in known:
        raise NotFoundError(
            f"There is nothing of ours named {what} to serve.",
            hint=f"There is: {', '.join(known)}.",
        )


def _local(what: str, env: Sequence[str]) -> Served:
    from corral.cli.mcp.clients.known import Served

    require_ours(what)
    values, names = split_variables(env)
    return Served(serve_command(what), values, names)


def _remote(url: str, env: Sequence[str]) -> Served:
    from urllib.parse import urlsplit

    from corral.cli.mcp.clients.known import Served

    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise UsageError(
            f"{url} is no http or https address.",
            hint="Write it as corral mcp serve --http prints it.",
        )
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise UsageError(
            f"{url} would send tokens over the network unencrypted.", hint="Use an https address."
        )
    if env:
        raise UsageError(
            "--env is for a server that the client starts.",
            hint="Set the variables where corral mcp serve --http runs.",
        )
    serve = current().settings().serve
    if serve.oauth is None and serve.token_env is None:
        raise UsageError(
            "The token of a server on this machine is another each time that it is started.",
            hint="Keep one in a variable, and name that in your own settings: [serve] token_env = "
            '"CORRAL_TOKEN". Then start the server and the client with the variable set.',
        )
    return Served(url=url, token_env=None if serve.oauth else serve.token_env)


def _print(client: Client, name: str, entry: JsonObject, served: Served) -> None:
    whole: JsonObject = {client.section: {name: entry}}
    if inputs := client.asks_for(served):
        whole["inputs"] = inputs
    if client.syntax == "toml":
        import tomlkit

        sys.stdout.write(tomlkit.dumps(whole))
    else:
        sys.stdout.write(json.dumps(whole, indent=2) + "\n")


def _warn(client: Client, served: Served) -> None:
    for name in served.env:
        note(f"The value of {name} will be readable in the file.")
    if served.url:
        return
    missing = left_behind(os.environ, {*served.env, *served.forwarded})
    if missing and (client.bare or client.hands):
        option = f"--env {missing[0]}"
        note(
            f"{', '.join(missing)}: set here, but {client.title} starts Corral without your "
            f"shell's variables. If it is needed, add {option}."
        )


def _carry_out(change: Change, *, dry_run: bool, yes: bool) -> bool:
    """Show a change, ask and make it. Whether it was made."""
    show_diff(change)
    if dry_run:
        return False
    confirm("Write it?", yes=yes, undone="nothing was changed")
    backup = change.make(backup=True)
    note(f"Wrote {change.file.path}." + (f" As it was: {backup}" if backup else ""))
    return True


def show_diff(change: Change) -> None:
    """Print a change in colours."""
    styles = {"+": "green", "-": "red", "@": "dim"}
    out = console()
    for line in change.diff():
        out.print(clean(line), style=styles.get(line[:1]))
