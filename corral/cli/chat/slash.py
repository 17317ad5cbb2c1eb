"""What starts with a slash: the REPL's own commands."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from rich.text import Text

from corral.cli.output import clean, one_line
from corral.cli.question import question
from corral.cli.render import runs_table, threads_table
from corral.cli.rewind import drawn
from corral.cli.trace.data import load
from corral.cli.trace.tree import Tree

if TYPE_CHECKING:
    from corral.cli.chat.session import Session
    from corral.runtime.rewind_report import RewindReport


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
    session.screen.line(Tree(await load(records, run)))


async def _fork(session: Session, argument: str) -> None:
    number, _, prompt = argument.partition(" ")
    if session.last_run is None or not number.isdecimal():
        session.screen.line("Say at which effect of the last run: /fork N. /trace numbers them.")
        return
    await session.fork(session.last_run, int(number), prompt.strip() or None)


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


async def _rewind(session: Session, argument: str) -> None:
    corral, thread = await session.runtime(), session.choices.thread
    if thread is None:
        session.screen.line("There is nothing to take back yet.")
        return
    standing = await corral.records.runs(thread=thread, limit=10_000, rewound=False)
    to = argument or str(max(0, len(standing) - 1))
    session.screen.line(drawn(await corral.rewind(thread, to, dry_run=True)))
    if await _agrees(session):
        await _rewound(session, await corral.rewind(thread, to))


async def _undo(session: Session, _argument: str) -> None:
    corral, thread = await session.runtime(), session.choices.thread
    if thread is None:
        session.screen.line("There is nothing to bring back yet.")
        return
    session.screen.line(drawn(await corral.undo_rewind(thread, dry_run=True)))
    if await _agrees(session):
        await _rewound(session, await corral.undo_rewind(thread))


async def _agrees(session: Session) -> bool:
    answer = await session.keyboard.ask("Go on? [y/n] » ")
    agreed = (answer or "").strip().lower() in {"y", "yes"}
    if not agreed:
        session.screen.line("Nothing was changed.", style="dim")
    return agreed


async def _rewound(session: Session, report: RewindReport) -> None:
    for left in report.failed:
        session.screen.line(f"{one_line(left.path)}: {left.reason}", style="red")
    back = " /undo brings it back." if report.action == "rewind" else ""
    session.screen.line(f"The conversation stands after run {report.to}.{back}", style="dim")
    runs = await (await session.runtime()).records.runs(
        thread=report.thread, limit=1, rewound=False
    )
    session.last_run = runs[0].run if runs else None


async def _model(session: Session, argument: str) -> None:
    if argument:
        session.choices.model = argument
    session.screen.line(f"model: {clean(session.choices.model or session.settings.model)}")


async def _attach(session: Session, argument: str) -> None:
    from corral.runtime.attachments import Attachment

    if argument:
        file = Attachment.read(argument)  # now, so that a mistake is told at once
        session.choices.attach.append(argument)
        session.screen.line(f"{clean(file.name)} goes with your next prompt.", style="dim")
        return
    for path in session.choices.attach:
        session.screen.line(clean(path))
    if not session.choices.attach:
        session.screen.line("No file goes with your next prompt.", style="dim")


async def _reasoning(session: Session, _argument: str) -> None:
    session.choices.reasoning = not session.choices.reasoning
    shown = "shown" if session.choices.reasoning else "not shown"
    session.screen.line(f"What a model thinks before it answers is {shown}.", style="dim")


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
    "fork": Slash(_fork, "/fork N [PROMPT]", "go on from effect N of the last run, elsewhere"),
    "memory": Slash(_memory, "/memory [forget ID]", "what is remembered, or forget it"),
    "rewind": Slash(_rewind, "/rewind [N]", "back to after run N: one run back, if left out"),
    "undo": Slash(_undo, "/undo", "bring the last rewind back"),
    "model": Slash(_model, "/model [M]", "show or change the model"),
    "attach": Slash(_attach, "/attach [FILE]", "send a file with the next prompt"),
    "reasoning": Slash(_reasoning, "/reasoning", "show what a model thinks, or hide it again"),
    "policy": Slash(_policy, "/policy [P]", "show or change the policy"),
    "approvals": Slash(_approvals, "/approvals", "answer the questions that wait"),
    "cancel": Slash(_cancel, "/cancel [RUN]", "give up a run that waits or was cut off"),
}
"""Every command but ``/quit``, in the order in which ``/help`` lists them."""
