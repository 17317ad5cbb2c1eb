"""Taking a conversation back, with its files and memories, and bringing it forward again."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from corral.cli.context import current, open_records, wait
from corral.cli.output import console, emit, note, one_line
from corral.cli.render import status, table, when
from corral.errors import UsageError

if TYPE_CHECKING:
    from rich.text import Text

    from corral.runtime.rewind import Rewinder
    from corral.runtime.rewind_report import FileLeft, RewindReport

T = TypeVar("T")

SHOWN = 40
"""Lines of one list, after which the rest is counted."""

_MARKS = {"created": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def rewind(
    thread: Annotated[
        str, typer.Argument(metavar="THREAD", help="A thread's id, its beginning, or last.")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="N", help="Back to after run N of the thread, or a run's id; 0: none."
        ),
    ] = None,
    undo: Annotated[bool, typer.Option("--undo", help="Bring the last rewind back.")] = False,
    keep_files: Annotated[
        bool, typer.Option("--keep-files", help="Leave the files as they are.")
    ] = False,
    go: Annotated[
        bool | None,
        typer.Option("--yes/--dry-run", help="Do not ask, or only show what would change."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> int:
    """Take a thread back: conversation, files and memories together.

    Without --to it lists the runs that one can go back to, or finishes a rewind that was cut off.
    """
    if undo and (to is not None or keep_files):
        raise UsageError(
            "--undo takes no other choice.", hint="It brings back all that the rewind took."
        )
    if to is None and not undo:
        return _list_or_finish(thread, json)
    asked = _Asked(thread, to, files=not keep_files)
    if go is not True:
        planned = wait(_with_rewinder(asked.plan))
        _require_someone_to_ask(go, json)
        _show(planned, json)
        if go is False:
            return 0
        if not typer.confirm("Go on?", err=True):
            note("Nothing was changed.")
            return 0
    report = wait(_with_rewinder(asked.act))
    if go:
        _show(report, json)
    return _concluded(report, json)


def _require_someone_to_ask(go: bool | None, json: bool) -> None:
    if go is None and (json or not sys.stdin.isatty()):
        raise UsageError(
            "Nobody can be asked here whether to rewind.",
            hint="See what would change with --dry-run, then say --yes.",
        )


@dataclass(frozen=True)
class _Asked:
    """What the user wants: back to a point, or (``None``) the last rewind undone."""

    thread: str
    to: str | None
    files: bool

    async def plan(self, rewinder: Rewinder) -> RewindReport:
        """What would change."""
        if self.to is None:
            return await rewinder.plan_undo(self.thread)
        return await rewinder.plan(self.thread, self.to, files=self.files)

    async def act(self, rewinder: Rewinder) -> RewindReport:
        """Do it."""
        if self.to is None:
            return await rewinder.undo(self.thread)
        return await rewinder.rewind(self.thread, self.to, files=self.files)


async def _with_rewinder(work: Callable[[Rewinder], Awaitable[T]]) -> T:
    from corral.runtime.rewind import Rewinder  # SQLAlchemy: not needed for --help

    async with open_records() as records:
        return await work(Rewinder(records.database, current().settings().snapshots))


def _list_or_finish(thread: str, json: bool) -> int:
    finished = wait(_with_rewinder(lambda rewinder: rewinder.finish(thread)))
    if finished is not None:
        _show(finished, json)
        return _concluded(finished, json)
    turns = wait(_with_rewinder(lambda rewinder: rewinder.turns(thread)))
    if json:
        for turn in turns:
            emit(turn.to_json())
        return 0
    drawn = table("to", "run", "status", "started (UTC)", "prompt")
    drawn.add_row("0", "", "", "", "(the beginning)")
    for turn in turns:
        cells = (turn.run, status(turn.status), when(turn.started_at), one_line(turn.prompt, 60))
        drawn.add_row(str(turn.number), *cells)
    console().print(drawn)
    note(f"Go back to one with: {current().command('rewind', thread, '--to')} N --dry-run")
    return 0


def _concluded(report: RewindReport, json: bool) -> int:
    """Say how it stands, and give the exit code."""
    if not json:
        how = "is as it was before the rewind" if report.action == "undo" else "stands again"
        note(f"thread {report.thread} {how}, after {_runs(report.to)}")
        if report.action == "rewind":
            note(f"undo it with: {current().command('rewind', report.thread, '--undo')}")
    if not report.failed:
        return 0
    if not json:
        note(f"error: {len(report.failed)} of the files could not be put back")
        for left in report.failed[:SHOWN]:
            note(f"  {left.path}: {left.reason}")
    return 1


def _runs(count: int) -> str:
    return f"{count} run{'' if count == 1 else 's'}"


def _show(report: RewindReport, json: bool) -> None:
    if json:
        emit(report.to_json())
    else:
        console().print(drawn(report))


def drawn(report: RewindReport) -> Text:
    """A rewind as a person reads it, before or after it was made."""
    from rich.text import Text

    text = Text()
    verb = "bring back" if report.action == "undo" else "take back"
    text.append(f"{verb} {_runs(len(report.runs))} of thread {report.thread}\n", style="bold")
    for turn in report.runs:
        text.append(f"  {turn.number:>3} {turn.run}  {turn.status}  ", style="dim")
        text.append(f"{one_line(turn.prompt, 60)}\n")
    text.append(f"files in {one_line(report.workspace, 200)}\n", style="bold")
    for file in report.files[:SHOWN]:
        mark, style = _MARKS[file.change]
        text.append(f"  {mark} {one_line(file.path, 200)}", style=style)
        size = "" if file.path.endswith("/") else f", {_size(file.size)}"
        text.append(f"  {file.change}{size}\n", style="dim")
    _rest(text, len(report.files))
    if not report.files:
        text.append("  no change\n", style="dim")
    for left in _named(report.left_alone):
        text.append(f"  ! {left}\n", style="dim")
    _memories(text, report)
    for said in report.notes:
        text.append(f"note: {one_line(said, 400)}\n", style="yellow")
    text.rstrip()
    return text


def _memories(text: Text, report: RewindReport) -> None:
    if not report.memories:
        return
    text.append("memories\n", style="bold")
    for memory in report.memories[:SHOWN]:
        mark, style = ("+", "green") if memory.change == "remembered" else ("-", "red")
        text.append(f"  {mark} {one_line(memory.text, 120)}", style=style)
        text.append(f"  {memory.change}\n", style="dim")
    _rest(text, len(report.memories))


def _named(left: tuple[FileLeft, ...]) -> list[str]:
    """What is left alone: a file that is only too large by itself, the others by their reason."""
    lines = [
        f"{one_line(one.path, 120)}: left alone, {one.reason}"
        + (f" ({_size(one.size)})" if one.size else "")
        for one in left[:SHOWN]
    ]
    return lines if len(left) <= SHOWN else [*lines, f"and {len(left) - SHOWN} more left alone"]


def _rest(text: Text, count: int) -> None:
    if count > SHOWN:
        text.append(f"  … and {count - SHOWN} more\n", style="dim")


def _size(size: int) -> str:
    if size < 1000:
        return f"{size} bytes"
    return f"{size / 1000:.1f} KB" if size < 10**6 else f"{size / 10**6:.1f} MB"
