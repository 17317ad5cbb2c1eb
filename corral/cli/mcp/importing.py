"""``corral mcp import``: the servers of other MCP clients, for agents."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current
from corral.cli.mcp.asking import agrees, told
from corral.cli.mcp.command_line import is_ours
from corral.cli.mcp.installing import places
from corral.cli.mcp.managing import WhereOption, YesOption, with_grants
from corral.cli.mcp.naming import require_known
from corral.cli.options import taking
from corral.cli.output import note, one_line
from corral.errors import ConfigError, NotFoundError, UsageError

if TYPE_CHECKING:
    from corral.cli.mcp.clients.known import Syntax
    from corral.cli.mcp.clients.reading import Taken
    from corral.jsontypes import JsonObject


@dataclass(frozen=True)
class ImportOptions:
    """Where servers are taken over to, and what they are called there."""

    rename: Annotated[
        list[str] | None,
        typer.Option(metavar="OLD=NEW", help="What a server is called here. May be repeated."),
    ] = None
    scope: WhereOption = "user"
    yes: YesOption = False

    @property
    def renamed(self) -> dict[str, str]:
        """The new names by the old ones. Raises ``UsageError``."""
        pairs = [one.partition("=") for one in self.rename or ()]
        for old, equals, new in pairs:
            if not (old and equals and new):
                raise UsageError(
                    f"{one_line(old + equals + new)} renames nothing.",
                    hint="Write: --rename OLD=NEW",
                )
        return {old: new for old, _, new in pairs}


@taking(ImportOptions)
def import_(
    source: Annotated[
        str, typer.Argument(metavar="CLIENT|FILE", help="An MCP client, or a file of one.")
    ],
    options: ImportOptions,
) -> None:
    """Take servers over from an MCP client's configuration.

    Shows each, and asks for each. One whose name is taken here gets another: it asks for it, or is
    told by --rename.
    """
    renamed, found = options.renamed, list(_found(source))
    if not (options.yes or sys.stdin.isatty()):
        raise UsageError(
            "Nobody is here to be asked for each server.", hint="Add --yes to take all of them."
        )
    if not found:
        note("There is no server in it.")
        return
    for old in renamed:
        require_known(
            old, [one.name for one in found], f"There is no server named {one_line(old)} in it."
        )
    offers = (_offer(one, renamed.get(one.name, one.name), options) for one in found)
    if added := [name for name in offers if name]:
        note(f"Added {', '.join(added)}. See their tools: {current().command('mcp', 'list')}")
    else:
        note("Nothing was added.")


def _offer(one: Taken, name: str, options: ImportOptions) -> str:
    """Show one entry and ask whether it is to be added. Its name then, else nothing."""
    from corral.cli.mcp import entry as entries

    if one.problem:
        note(f"{one.name}: left out: {one.problem}.")
        return ""
    there = entries.config_file(options.scope).entries.get(name, {})
    if there and all(there.get(key) == one.entry.get(key) for key in ("command", "args", "url")):
        note(f"{name}: it is there already.")
        return ""
    name = _free(one.name, name, options)
    if not name:
        return ""
    try:
        entries.checked(name, one.entry, options.scope)
    except ConfigError as error:
        note(f"{name}: left out: {error.message} {error.hint}".rstrip())
        return ""
    entries.show(name, one.entry)
    for words in one.notes:
        note(f"  ! {words}")
    entry, scope = one.entry, options.scope
    if not options.yes:
        if not agrees(f"Add {name}?"):
            return ""
        entry, scope = with_grants(name, entry, scope)
    entries.added(entries.config_file(scope), name, entry).make(backup=False)
    return name


def _free(theirs: str, name: str, options: ImportOptions) -> str:
    """A name that the entry can have here: the wanted one, or one that is asked for."""
    from corral.cli.mcp import entry as entries

    while name:
        try:
            entries.require_free(name, options.scope)
        except ConfigError as error:
            if options.yes:
                fix = f"Give it another name: --rename {theirs}=NEW"
                note(f"{theirs}: left out: {error.message} {fix}")
                return ""
            note(error.message)
            name = told(f"Another name for {theirs} (nothing: leave it out)")
        else:
            return name
    return ""


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
