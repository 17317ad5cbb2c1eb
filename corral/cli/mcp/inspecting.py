"""``corral mcp inspect``, ``trust`` and ``test``: one server that agents use, from nearby."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.approvals import parse_arguments
from corral.cli.context import current, wait
from corral.cli.mcp.asking import confirm
from corral.cli.mcp.naming import require_server
from corral.cli.options import taking
from corral.cli.output import clean, console, emit, note
from corral.errors import UsageError

if TYPE_CHECKING:
    from corral.cli.mcp.looking import Look
    from corral.tools.pins import Pins

ServerArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="A configured server, or one of ours.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def inspect(
    name: ServerArgument,
    json: JsonOption = False,
) -> None:
    """Start a server and show all that it declares.

    Its tools, their schemas and hints, and its instructions. Nothing is trusted or pinned by it.
    """
    from corral.cli.mcp.looking import show

    require_server(name, "memory")
    look = wait(_look(name))
    if json:
        emit(look.to_json())
    else:
        show(look, whole=True)


def trust(
    name: ServerArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Show how a server's tools have changed, and trust them.

    They are compared with those that you trusted. It asks before it trusts them as they are now.
    """
    require_server(name)
    wait(_trust(name, yes=yes))


@dataclass(frozen=True)
class TrialOptions:
    """A call by hand."""

    tool: Annotated[str, typer.Argument(metavar="TOOL", help="One of its tools.")] = ""
    args: Annotated[
        str, typer.Option(metavar="JSON", help='Its arguments: {"path": "notes.txt"}')
    ] = "{}"
    policy: Annotated[
        str | None,
        typer.Option(metavar="P", help="read-only, ask, workspace, trusted, or a policy file."),
    ] = None
    json: JsonOption = False


@taking(TrialOptions)
def test(name: ServerArgument, options: TrialOptions) -> int:
    """Call one tool of a server, as a run of its own.

    With policy, approval, journal and trace. Exits 0 when it answered, 1 when it failed, 3 when the
    call waits for approval.
    """
    require_server(name, "memory")
    if not options.tool:
        raise UsageError(
            "No tool is named.",
            hint=f"See what there is: {current().command('mcp', 'inspect', name)}",
        )

    from corral.agents.options import RunOptions
    from corral.cli.follow import follow
    from corral.tools.contract import SEPARATOR

    call, args = f"{name}{SEPARATOR}{options.tool}", parse_arguments(options.args)
    chosen = RunOptions(policy=options.policy)
    policy = ("--policy", options.policy) if options.policy else ()
    again = current().command("mcp", "test", name, options.tool, "--args", options.args, *policy)
    return follow(
        lambda corral: corral.stream_call(call, args, chosen), json=options.json, again=again
    )


async def _look(name: str) -> Look:
    from corral.cli.mcp.looking import looked

    async with looked(name) as (look, _):
        return look


async def _trust(name: str, *, yes: bool) -> None:
    from corral.cli.mcp.looking import looked

    async with looked(name) as (look, store):
        if look.is_ours:
            note(f"{name} comes with Corral; there is nothing to trust.")
            return
        if look.trusted is not None and look.differs.is_same:
            note(f"{name} is as you trusted it.")
            return
        _show_difference(look.trusted, look.now)
        confirm(f"Trust {name} as it is now?", yes=yes, undone="nothing was trusted")
        await store.trust(look.now)
        note(f"{len(look.now.tools)} tools of {name} are trusted as they are now.")


def _show_difference(trusted: Pins | None, now: Pins) -> None:
    from corral.tools.pins import difference

    styles = {"+": "green", "-": "red", "@": "dim"}
    out = console()
    for line in difference(trusted, now):
        out.print(clean(line), style=styles.get(line[:1]))
    for words in now.warnings:
        out.print(f"! {clean(words)}", style="bold yellow")
