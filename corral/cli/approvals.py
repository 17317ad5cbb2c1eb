"""Answering an agent's questions from any terminal: approvals, approve, deny, give."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from corral.cli.context import current, open_records, wait
from corral.cli.output import clean, console, emit, emit_all, note, one_line
from corral.cli.render import question, status
from corral.errors import UsageError

if TYPE_CHECKING:
    from corral.jsontypes import JsonObject
    from corral.runtime.records import Records
    from corral.runtime.views import Approval

T = TypeVar("T")

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="An approval's id.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


def approvals(
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only this run's.")] = None,
    all_: Annotated[bool, typer.Option("--all", help="The answered ones too.")] = False,
    json: JsonOption = False,
) -> None:
    """List the questions that wait for an answer."""
    settings = current().settings()

    async def read(records: Records) -> list[Approval]:
        return await records.approvals(run=run, status=None if all_ else "pending")

    found = wait(_with_records(read))
    if json:
        emit_all(found)
        return
    if not found:
        note("Nothing waits for an answer.")
    out = console()
    for approval in found:
        out.print(f"{approval.id}  ", status(approval.status), f"  run {approval.run}", sep="")
        out.print(question(approval, settings.workspace), end="")
        if approval.status == "pending":
            for line in ways_to_answer(approval):
                out.print(f"  {line}", style="dim", soft_wrap=True)
        elif told := approval.answer_reason or approval.answer_result:
            out.print(f"  answer: {one_line(told, 200)}", style="dim")


def ways_to_answer(approval: Approval) -> list[str]:
    """The commands that answer a question, each after what it does in words."""
    command = current().command
    allow = command("approve", approval.id)
    refuse = f"{command('deny', approval.id)} --reason '…'"
    ways = [("allow", allow), ("refuse", refuse)]
    if approval.kind == "in_doubt":
        give = f"{command('give', approval.id)} --result '…'"
        ways = [("retry", allow), ("give the result", give), ("fail the call", refuse)]
    width = max(len(words) for words, _ in ways) + 2
    return [clean(f"{words + ':':<{width}}{line}") for words, line in ways]


def approve(
    id: IdArgument,
    edit: Annotated[
        str | None, typer.Option(metavar="JSON", help="Call it with these arguments instead.")
    ] = None,
    always: Annotated[
        bool, typer.Option("--always", help="Also allow calls like this one from now on.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Let a call be made; one in doubt is made again. The run goes on at `corral resume RUN`."""
    args = parse_arguments(edit) if edit is not None else None

    async def answer(records: Records) -> Approval:
        rule: JsonObject | None = None
        if always:
            rule = (await records.approval(id)).always
        return await records.approve(id, args=args, always=rule)

    _answered(wait(_with_records(answer)), json)


def deny(
    id: IdArgument,
    reason: Annotated[str, typer.Option(metavar="R", help="Told to the model.")],
    json: JsonOption = False,
) -> None:
    """Refuse a call, or fail one in doubt. The model reads the reason when the run goes on."""

    async def answer(records: Records) -> Approval:
        return await records.deny(id, reason)

    _answered(wait(_with_records(answer)), json)


def give(
    id: IdArgument,
    result: Annotated[
        str, typer.Option(metavar="TEXT", help="The result; @FILE reads a file, - standard input.")
    ],
    json: JsonOption = False,
) -> None:
    """Give the result of a call in doubt by hand: it is not made again."""
    text = read_result(result)

    async def answer(records: Records) -> Approval:
        return await records.give(id, text)

    _answered(wait(_with_records(answer)), json)


def read_result(said: str) -> str:
    """A result as it is given: a text, ``@FILE`` or ``-``. Raises ``UsageError``."""
    if said == "-":
        return sys.stdin.read()
    if not said.startswith("@"):
        return said
    path = Path(said[1:]).expanduser()
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a text in UTF-8"
        raise UsageError(
            f"The result cannot be read from {path}: {why}.",
            hint="Write --result @FILE with a text file, or --result - for standard input.",
        ) from error


def parse_arguments(text: str) -> JsonObject:
    """Edited arguments as an object. Raises ``UsageError`` that shows where they break."""
    try:
        value = jsonlib.loads(text)
    except jsonlib.JSONDecodeError as error:
        raise UsageError(
            f"The edited arguments are not JSON: {error.msg} at character {error.pos + 1}.",
            hint='Give one JSON object, for example \'{"path": "notes.txt"}\'.',
        ) from error
    if not isinstance(value, dict):
        raise UsageError(
            f"The edited arguments are {type(value).__name__}, not an object.",
            hint='Give one JSON object, for example \'{"path": "notes.txt"}\'.',
        )
    return value


async def _with_records(work: Callable[[Records], Coroutine[None, None, T]]) -> T:
    async with open_records() as records:
        return await work(records)


def _answered(approval: Approval, json: bool) -> None:
    if json:
        emit(approval.to_json())
        return
    note(f"{approval.status}: {approval.tool} of run {approval.run}")
    note(f"go on with: {current().command('resume', approval.run)}")
