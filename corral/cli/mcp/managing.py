"""``corral mcp add``, ``remove`` and ``import``: the servers that agents use."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corral.cli.context import current, wait
from corral.cli.mcp.asking import agrees, confirm
from corral.cli.mcp.command_line import is_ours, split_variables
from corral.cli.mcp.installing import places, show_diff
from corral.cli.options import taking
from corral.cli.output import clean, console, note
from corral.errors import ConfigError, NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from corral.cli.mcp.clients.known import Syntax
    from corral.cli.mcp.clients.reading import Taken
    from corral.cli.mcp.entry import Where
    from corral.jsontypes import JsonObject

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="What the server is called.")]
WhereOption = Annotated[
    Literal["project", "user"],
    typer.Option("--scope", help="In this folder's corral.toml, or in your own settings."),
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True)
class AddOptions:
    """A new server, and what it is granted."""

    command: Annotated[
        list[str] | None, typer.Argument(metavar="-- COMMAND...", help="How it is started.")
    ] = None
    url: Annotated[str | None, typer.Option(metavar="URL", help="Where it is, instead.")] = None
    env: Annotated[
        list[str] | None,
        typer.Option(
            "--env",
            "-e",
            metavar="NAME[=VALUE]",
            help="A variable of yours to hand on, or a value.",
        ),
    ] = None
    header: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME:VALUE", help="Sent to a --url; ${VAR} is filled in."),
    ] = None
    grant: Annotated[
        list[str] | None, typer.Option(metavar="DIR", help="A folder that it may read.")
    ] = None
    writable: Annotated[
        list[str] | None, typer.Option(metavar="DIR", help="A folder that it may change.")
    ] = None
    network: Annotated[
        list[str] | None, typer.Option(metavar="HOST", help="A host that it may reach.")
    ] = None
    scope: WhereOption = "project"
    yes: YesOption = False

    @property
    def entry(self) -> JsonObject:
        """As it stands in the file. Raises ``UsageError``."""
        values, names = split_variables(self.env or ())
        command = self.command or []
        given: JsonObject = {
            "command": command[0] if command else "",
            "args": command[1:],
            "url": self.url,
            "env": {name: f"${{{name}}}" for name in names} | values,
            "headers": dict(map(_header, self.header or ())),
            "grants": self.grant,
            "writable": self.writable,
            "network": self.network,
        }
        return {key: value for key, value in given.items() if value}


@taking(AddOptions)
def add(name: NameArgument, options: AddOptions) -> int:
    """Add an MCP server that agents use.

    corral mcp add NAME -- COMMAND..., or corral mcp add NAME --url URL.

    Shows what it would do and asks; then starts it in the sandbox and shows its tools.
    """
    from corral.cli.mcp import entry as entries
    from corral.cli.mcp.looking import first_look

    entry = options.entry
    entries.checked(name, entry, options.scope)
    change = entries.added(entries.config_file(options.scope), name, entry)
    _show(name, entry)
    if not options.yes:
        note(f"It would be added to {change.file.path}, and started.")
    confirm("Add it?", yes=options.yes, undone="nothing was added or started")
    change.make()
    note(f"Added to {change.file.path}.")
    return wait(first_look(name, yes=options.yes))


def remove(
    name: NameArgument,
    yes: YesOption = False,
) -> None:
    """Remove an MCP server, and forget what was trusted of it."""
    from corral.cli.mcp import entry as entries
    from corral.cli.mcp.looking import forget

    files = [entries.config_file("project"), entries.config_file("user")]
    file = next((file for file in files if name in file.entries), None)
    if file is None:
        there = sorted({each for file in files for each in file.entries})
        raise NotFoundError(
            f"No server named {name} is configured.",
            hint=f"There is: {', '.join(there) or 'none'}.",
        )
    change = file.without_entry(name)
    show_diff(change)
    confirm("Remove it?", yes=yes, undone="nothing was removed")
    change.make()
    wait(forget(name))
    note(f"Removed {name} from {file.path}.")


def import_(
    source: Annotated[
        str, typer.Argument(metavar="CLIENT|FILE", help="An MCP client, or a file of one.")
    ],
    scope: WhereOption = "user",
    yes: YesOption = False,
) -> None:
    """Take servers over from an MCP client's configuration.

    Shows each, and asks for each.
    """
    found = list(_found(source))
    if not (yes or sys.stdin.isatty()):
        raise UsageError(
            "Nobody is here to be asked for each server.", hint="Add --yes to take all of them."
        )
    if not found:
        note("There is no server in it.")
        return
    added = [one.name for one in found if _offer(one, scope, yes=yes)]
    if added:
        note(f"Added {', '.join(added)}. See their tools: {current().command('mcp', 'list')}")
    else:
        note("Nothing was added.")


def _offer(one: Taken, scope: Where, *, yes: bool) -> bool:
    """Show one entry and ask whether it is to be added. Whether it was."""
    from corral.cli.mcp import entry as entries

    if one.problem:
        note(f"{one.name}: left out: {one.problem}.")
        return False
    file = entries.config_file(scope)
    if one.name in file.entries:
        note(f"{one.name}: left out: {file.path} has one of that name.")
        return False
    try:
        entries.checked(one.name, one.entry, scope)
    except ConfigError as error:
        note(f"{one.name}: left out: {error.message} {error.hint}".rstrip())
        return False
    _show(one.name, one.entry)
    for words in one.notes:
        note(f"  ! {words}")
    if not yes and not agrees(f"Add {one.name}?"):
        return False
    entries.added(file, one.name, one.entry).make()
    return True


def _found(source: str) -> Iterator[Taken]:
    """The servers of a client, in its own settings and in those of this folder, or of a file."""
    from corral.cli.mcp.clients.files import ConfigFile
    from corral.cli.mcp.clients.known import find_client

    if "/" in source or Path(source).suffix or Path(source).is_file():
        yield from _of_file(Path(source))
        return
    client = find_client(source)
    seen: set[str] = set()
    for scope in ("project", "user") if client.project_file else ("user",):
        file = ConfigFile.read(client.file(places(), scope), client.section, client.syntax)
        local = file.entries_in(places().workspace) if scope == "user" else {}
        for one in _of({**file.entries, **local}):
            if one.name not in seen:
                seen.add(one.name)
                yield one


def _of_file(path: Path) -> Iterator[Taken]:
    """The servers of a file, of whichever client it is."""
    from corral.cli.mcp.clients.files import ConfigFile
    from corral.cli.mcp.clients.known import CLIENTS

    if not path.is_file():
        raise NotFoundError(
            f"There is no file {path}.",
            hint=f"Name a file, or one of: {', '.join(client.name for client in CLIENTS)}.",
        )
    syntax: Syntax = "toml" if path.suffix == ".toml" else "jsonc"
    for section in dict.fromkeys(client.section for client in CLIENTS):
        yield from _of(ConfigFile.read(path, section, syntax).entries)


def _of(entries: Mapping[str, JsonObject]) -> Iterator[Taken]:
    from corral.cli.mcp.clients.reading import taken

    there = places()
    for name, entry in entries.items():
        if not is_ours(entry):
            yield taken(name, entry, there.workspace, there.home)


def _show(name: str, entry: JsonObject) -> None:
    from corral.cli.mcp import entry as entries

    out = console()
    for line, style in entries.lines(name, entry):
        out.print(line, style=style)


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (colon and name.strip() and value.strip()):
        raise UsageError(
            f"{clean(name)} is no header.", hint="Write: --header 'Authorization: Bearer ${TOKEN}'"
        )
    return name.strip(), value.strip()
