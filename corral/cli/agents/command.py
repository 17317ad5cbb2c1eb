"""The commands ``corral agents list``, ``show``, ``new``, ``check``, ``graph`` and ``patterns``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.agents.completion import agent_names, pattern_names
from corral.cli.agents.drawing import in_plain
from corral.cli.context import current, wait
from corral.cli.inspection import JsonOption
from corral.cli.output import clean, console, emit, note
from corral.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from corral.agents.files.catalog import Catalog, Entry
    from corral.agents.files.problems import Problem
    from corral.runtime.config import Settings

NameArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="An agent's name, or its Markdown file.", autocompletion=agent_names
    ),
]

app = typer.Typer(
    name="agents",
    help="The agents that there are, what they would do, and new ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the agents, from corral.toml and from Markdown files."""
    from corral.agents.files.catalog import find_agents
    from corral.cli.agents.listing import drawn, rows

    settings = current().settings()
    catalog = find_agents(settings)
    found = list(rows(catalog, settings))
    if json:
        for row in found:
            emit(row.to_json())
    else:
        console().print(drawn(found))
    if not json and any(row.entry.problems for row in found):
        note("See what is wrong, and what to write instead: corral agents check")


@app.command("show")
def show(
    name: NameArgument,
    tools: Annotated[
        bool, typer.Option("--tools", help="Start its servers and list its tools, too.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show all that holds for an agent, as it would run."""
    from corral.cli.agents.opening import effective
    from corral.cli.agents.showing import offered_to, shown, shown_json

    settings = current().settings()
    entry, agent = _entry(name, settings), effective(name, settings)
    offered = wait(offered_to(agent, settings)) if tools else None
    if json:
        emit(shown_json(agent, entry, settings, offered))
    else:
        _print(shown(agent, entry, settings, offered))


@app.command("check")
def check(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME|FILE]...",
            help="Agents, or their Markdown files; else all.",
            autocompletion=agent_names,
        ),
    ] = None,
    json: JsonOption = False,
) -> int:
    """Find all that is wrong with agents, without starting or asking anything.

    Exits 1 when there is something.
    """
    from corral.agents.files.catalog import find_agents
    from corral.cli.agents.checking import check as look

    settings = current().settings()
    catalog = find_agents(settings)
    entries = [_entry(name, settings, catalog) for name in names or ()] if names else None
    problems = look(entries or (*catalog.entries, *catalog.unused), catalog, settings)
    problems += catalog.problems if not names else ()
    if json:
        for problem in problems:
            emit(problem.to_json())
    else:
        _tell(problems, len(entries or catalog.entries))
    return 1 if problems else 0


@app.command("new")
def new(
    name: Annotated[
        str, typer.Argument(metavar="[NAME]", help="Its name; with --from, else the file's own.")
    ] = "",
    pattern: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="How it works: see `corral agents patterns`.",
            autocompletion=pattern_names,
        ),
    ] = None,
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="FILE", help="An agent of another product, in Markdown."),
    ] = None,
    user: Annotated[bool, typer.Option("--user", help="In your own folder, for all projects.")] = (
        False
    ),
    force: Annotated[bool, typer.Option("--force", help="Write over a file of that name.")] = False,
) -> None:
    """Write a Markdown file for a new agent."""
    from corral.cli.agents.making import Wanted, make

    if not name and source is None:
        raise UsageError("The new agent has no name.", hint="Write: corral agents new NAME")
    if pattern is not None and source is not None:
        raise UsageError(
            "--pattern and --from exclude each other.", hint="Write `pattern:` into the new file."
        )
    settings = current().settings()
    made = make(Wanted(name, pattern, source, user, force), settings)
    for line in made.notes:
        note(line)
    sys.stdout.write(f"{clean(str(made.path))}\n")
    note(f"Edit it, then: {current().command('agents', 'check', made.name)}")


@app.command("graph")
def graph(
    name: NameArgument = "assistant",
    mermaid: Annotated[bool, typer.Option("--mermaid", help="As Mermaid text.")] = False,
) -> None:
    """Draw the graph of an agent, and the team below it."""
    from corral.cli.agents.graph import shape_of
    from corral.cli.agents.opening import effective
    from corral.cli.agents.teams import team_lines

    settings = current().settings()
    agent = effective(name, settings)
    shape = wait(shape_of(agent, settings))
    if mermaid:
        sys.stdout.write(shape.mermaid)
        return
    lines = [f"{agent.name}: {agent.pattern}", "", *map(clean, shape.lines())]
    if any(edge.chosen for edge in shape.edges):
        lines += ["", "dotted: one of these ways, by what the node finds"]
    if agent.members:
        lines += ["", "team:", *(f"  {line}" for line in team_lines(agent))]
    _print(lines)


@app.command("patterns")
def patterns(json: JsonOption = False) -> None:
    """List the patterns: the ways in which an agent, or several, can work."""
    from corral.agents.patterns.registry import PATTERNS
    from corral.cli.agents.patterns import described, pattern_json

    if json:
        for pattern in PATTERNS.values():
            emit(pattern_json(pattern))
        return
    _print(line for pattern in PATTERNS.values() for line in described(pattern))


def _entry(name: str, settings: Settings, known: Catalog | None = None) -> Entry:
    from corral.agents.files.catalog import entry_of, find_agents, is_file_name

    if is_file_name(name):
        return entry_of(Path(name))
    catalog = known or find_agents(settings)
    entry = catalog.find(name)
    if entry is None:
        raise NotFoundError(
            f"There is no agent {name!r}.", hint=f"The agents are: {', '.join(catalog.names)}."
        )
    return entry


def _print(lines: Iterable[str]) -> None:
    is_plain = (sys.stdout.encoding or "utf-8").lower().replace("-", "") != "utf8"
    for line in lines:
        sys.stdout.write(f"{in_plain(line) if is_plain else line}\n")


def _tell(problems: list[Problem], agents: int) -> None:
    for problem in problems:
        _print([clean(f"{problem.where}: {problem.message}"), clean(f"  {problem.hint}")])
    if not problems:
        note(f"No problems found in {agents} agent{'s' if agents != 1 else ''}.")
