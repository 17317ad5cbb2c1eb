"""``corral mcp add`` and ``remove``: the servers that agents use."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corral.cli.context import wait
from corral.cli.mcp import granting
from corral.cli.mcp.asking import agrees, confirm
from corral.cli.mcp.command_line import split_variables
from corral.cli.mcp.installing import show_diff
from corral.cli.mcp.naming import require_known
from corral.cli.options import taking
from corral.cli.output import clean, note, one_line
from corral.errors import UsageError

if TYPE_CHECKING:
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

    entry, scope = granting.placed(options.entry), options.scope
    entries.checked(name, entry, scope)
    entries.show(name, entry)
    if not options.yes and sys.stdin.isatty():
        entry, scope = with_grants(name, entry, scope)
    change = entries.added(entries.config_file(scope), name, entry)
    if not options.yes:
        note(f"It would be added to {change.file.path}, and started.")
    confirm("Add it?", yes=options.yes, undone="nothing was added or started")
    change.make(backup=False)
    note(f"Added to {change.file.path}.")
    code = wait(first_look(name, yes=options.yes))
    if code and (missing := [one for one in granting.needed(entry) if not one.is_granted(entry)]):
        named = ", ".join(str(one.whole) for one in missing)
        note(f"Its sandbox does not show it {named}, which its command needs.")
        note(f"Take it out, and add it again with: {granting.options(missing, scope)}")
    return code


def with_grants(name: str, entry: JsonObject, scope: Where) -> tuple[JsonObject, Where]:
    """The entry with what its command names and its person lets it read; where it then belongs."""
    from corral.cli.mcp import entry as entries

    granted = entry
    for one in granting.needed(entry):
        if one.is_covered(entry):
            continue
        moves = scope == "project" and one.is_outside
        where = " It is then added to your own settings." if moves else ""
        note(f"Its command names {one.named}, which its sandbox would not show it.{where}")
        if agrees(f"Let it read {clean(str(one.whole))}?"):
            granted = granting.with_grant(granted, one)
            scope = "user" if moves else scope
    if granted is not entry:
        entries.checked(name, granted, scope)
        entries.show(name, granted)
    return granted, scope


def remove(
    name: NameArgument,
    yes: YesOption = False,
) -> None:
    """Remove an MCP server, and forget what was trusted of it."""
    from corral.cli.mcp import entry as entries
    from corral.cli.mcp.looking import forget

    files = [entries.config_file("project"), entries.config_file("user")]
    there = sorted({each for file in files for each in file.entries})
    require_known(name, there, f"No server named {one_line(name)} is configured.")
    file = next(file for file in files if name in file.entries)
    change = file.without_entry(name)
    show_diff(change)
    confirm("Remove it?", yes=yes, undone="nothing was removed")
    change.make(backup=False)
    wait(forget(name))
    note(f"Removed {name} from {file.path}.")


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (colon and name.strip() and value.strip()):
        raise UsageError(
            f"{clean(name)} is no header.", hint="Write: --header 'Authorization: Bearer ${TOKEN}'"
        )
    return name.strip(), value.strip()
