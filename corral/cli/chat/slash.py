"""What starts with a slash: the REPL's own commands."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from rich.text import Text

from corral.cli.output import clean, one_line
from corral.cli.render import question, runs_table, threads_table, trace_tree

if TYPE_CHECKING:
    from corral.cli.chat.session import Session


@dataclass(frozen=True)
class Slash:
    """One command: what it does, and in words for ``/help``."""

    run: Callable[[Session, str], Coroutine[None, None, None]]
    usage: str
    help: str


async def handle(session: Session, line: str) -> bool:
    """Run the command in ``line``. ``False`` when the user wants to leave."""
    name, _, argument = line[1:].strip().partition(" ")
    if name in {"quit", "exit", "q"}:
        return False
    command = COMMANDS.get(name)
    if command is None:
        near = get_close_matches(name, [*COMMANDS, "quit"], n=1)
        meant = f" Did you mean /{near[0]}?" if near else ""
        session.screen.line(f"There is no command /{clean(name)}.{meant} /help lists them.")
        return True
    await session.interruptible(command.run(session, argument.strip()))
    return True


async def _help(session: Session, _argument: str) -> None:
    for command in COMMANDS.values():
        session.screen.line(f"  {command.usage:<24} {command.help}")
    session.screen.line(f"  {'/quit':<24} leave (Ctrl-D too); the conversation is kept")
    session.screen.line("  Alt-Enter, or \\ at the end, starts a new line; Ctrl-C stops a step.")


async def _new(session: Session, _argument: str) -> None:
    session.choices.thread = None
    session.last_run = None
    session.screen.line("A new thread begins with your next prompt.", style="dim")


async def _threads(session: Session, argument: str) -> None:
    records = (await session.runtime()).records
    found = await records.threads(limit=200)
    if not argument:
        session.screen.line(threads_table(found[:20]))
        return
    matches = [thread.thread for thread in found if thread.thread.startswith(argument)]
    if len(matches) != 1:
        session.screen.line(f"{len(matches)} threads begin with {clean(argument)}.")
        return
    session.choices.thread = matches[0]
    await session.take_up()


async def _runs(session: Session, _argument: str) -> None:
    records = (await session.runtime()).records
    session.screen.line(runs_table(await records.runs(thread=session.choices.thread, limit=20)))


async def _trace(session: Session, argument: str) -> None:
    run = argument or session.last_run
    if run is None:
        session.screen.line("There is no run yet.")
        return
    records = (await session.runtime()).records
    view = await records.run(run)
    session.screen.line(trace_tree(view, await records.trace(view.run)))


async def _memory(session: Session, argument: str) -> None:
    memory = (await session.runtime()).memory
    verb, _, id_ = argument.partition(" ")
    if verb == "forget" and id_:
        await memory.forget(id_.strip())
        session.screen.line("forgotten", style="dim")
        return
    facts = await memory.all()
    for fact in facts:
        session.screen.line(Text.assemble((f"{fact.id}  ", "dim"), one_line(fact.text, 300)))
    if not facts:
        session.screen.line("Nothing is remembered yet.", style="dim")


async def _model(session: Session, argument: str) -> None:
    if argument:
        session.choices.model = argument
    session.screen.line(f"model: {clean(session.choices.model or session.settings.model)}")


async def _policy(session: Session, argument: str) -> None:
    if argument:
        session.choices.policy = argument
    session.screen.line(f"policy: {clean(session.choices.policy or session.settings.policy)}")


async def _approvals(session: Session, _argument: str) -> None:
    records = (await session.runtime()).records
    waiting = await records.approvals()
    here = [approval for approval in waiting if approval.thread == session.choices.thread]
    if here:
        await session.settle_run(here[0].run)
        return
    for approval in waiting:
        session.screen.line(f"\nthread {approval.thread}", style="dim")
        session.screen.line(question(approval))
    if waiting:
        session.screen.line("Go there with /threads THREAD to answer.", style="dim")
    else:
        session.screen.line("Nothing waits for an answer.", style="dim")


async def _cancel(session: Session, argument: str) -> None:
    run = argument or session.last_run
    if run is None:
        session.screen.line("There is no run yet.")
        return
    view = await (await session.runtime()).records.cancel(run)
    session.screen.line(f"{view.run} is given up; say what comes next.", style="dim")


COMMANDS = {
    "help": Slash(_help, "/help", "this list"),
    "new": Slash(_new, "/new", "start another thread"),
    "threads": Slash(_threads, "/threads [THREAD]", "list the threads, or go to one"),
    "runs": Slash(_runs, "/runs", "the runs of this thread"),
    "trace": Slash(_trace, "/trace [RUN]", "what the last run did, step by step"),
    "memory": Slash(_memory, "/memory [forget ID]", "what is remembered, or forget it"),
    "model": Slash(_model, "/model [M]", "show or change the model"),
    "policy": Slash(_policy, "/policy [P]", "show or change the policy"),
    "approvals": Slash(_approvals, "/approvals", "answer the questions that wait"),
    "cancel": Slash(_cancel, "/cancel [RUN]", "give up a run that waits or was cut off"),
}
"""Every command but ``/quit``, in the order in which ``/help`` lists them."""
