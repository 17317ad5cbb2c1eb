"""Answering an agent's questions from any terminal: approvals, approve, deny, give, stop."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from corral.cli.always import RuleOptions, preview, show_preview
from corral.cli.context import current, open_records, wait
from corral.cli.hosted import who_goes_on
from corral.cli.input_form import parse_values
from corral.cli.options import taking
from corral.cli.output import clean, console, emit, emit_all, note, one_line
from corral.cli.question import question
from corral.cli.render import status, table, when
from corral.cli.signature import signed
from corral.errors import UsageError
from corral.runtime.approvals.form import needed

if TYPE_CHECKING:
    from corral.jsontypes import JsonObject
    from corral.runtime.approvals.replies import Reply
    from corral.runtime.records import Records
    from corral.runtime.views import Approval, StandingRule

T = TypeVar("T")

app = typer.Typer(help="List the questions that wait for an answer.", rich_markup_mode=None)

IdArgument = Annotated[str, typer.Argument(metavar="ID", help="An approval's id.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line.")]


@app.callback(invoke_without_command=True)
def approvals(
    context: typer.Context,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only this run's.")] = None,
    for_: Annotated[
        str | None, typer.Option("--for", metavar="NAME", help="Only those escalated to NAME.")
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="The answered ones too.")] = False,
    would_match: Annotated[
        str | None, typer.Option(metavar="RULE", help="List past calls that a rule would fit.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """List the questions that wait for an answer."""
    if context.invoked_subcommand is not None:
        return
    settings = current().settings()
    if would_match is not None:
        show_preview(would_match, json=json)
        return

    from corral.runtime.approvals.file_change import warnings_of

    async def read(records: Records) -> list[Approval]:
        status = None if all_ else "pending"
        of = (await records.run(run)).run if run else None
        asked = await records.approvals(run=of, status=status, asked_of=for_)
        return [replace(each, warnings=warnings_of(each)) for each in asked]

    found = wait(with_records(read))
    if json:
        emit_all(found)
        return
    if not found:
        note("Nothing was asked." if all_ else "Nothing waits for an answer.")
    for number, approval in enumerate(found):
        if number:
            console().print()
        _draw(approval, settings.workspace)


@app.command("show")
def show(id: IdArgument, json: JsonOption = False) -> None:
    """Show one question whole: nothing in it is cut."""
    settings = current().settings()

    async def read(records: Records) -> Approval:
        return await records.approval(id)

    approval = wait(with_records(read))
    if json:
        emit(approval.to_json())
        return
    _draw(approval, settings.workspace, shortened=False)
    for number, suggestion in enumerate(approval.suggestions, start=1):
        console().print(f"  always, rule {number}: {clean(str(suggestion['words']))}", style="dim")


def _draw(approval: Approval, workspace: Path, *, shortened: bool = True) -> None:
    out = console()
    out.print(f"{approval.id}  ", status(approval.status), f"  run {approval.run}", sep="")
    out.print(question(approval, workspace, shortened=shortened), end="")
    if approval.status == "pending":
        for line in ways_to_answer(approval):
            out.print(f"  {line}", style="dim", soft_wrap=True)
    elif told := approval.answer_reason or approval.answer_result:
        out.print(f"  answer: {one_line(told, 200)}", style="dim")
    if approval.answered_by:
        out.print(f"  answered by: {one_line(approval.answered_by)}", style="dim")


def ways_to_answer(approval: Approval) -> list[str]:
    """The commands that answer a question, each after what it does in words."""
    command = current().command
    allow = command("approve", approval.id)
    refuse = f"{command('deny', approval.id)} --reason '…'"
    give = f"{command('give', approval.id)} --result '…'"
    stop = command("stop", approval.id)
    ways = {
        "tool": [("allow", allow), ("refuse", refuse), ("give the result", give)],
        "in_doubt": [("retry", allow), ("give the result", give), ("fail the call", refuse)],
        "budget": [("raise the limit", allow), ("end here", refuse)],
        "loop": [("let it go on", allow), ("refuse", refuse)],
        "input": [_way_to_fill_in(approval, allow), ("refuse", refuse)],
    }[approval.kind]
    if approval.kind == "tool" and approval.suggestions:
        ways.insert(1, ("allow always", f"{allow} --always"))
    ways.append(("stop the run", stop))
    width = max(len(words) for words, _ in ways) + 2
    return [clean(f"{words + ':':<{width}}{line}") for words, line in ways]


def _way_to_fill_in(approval: Approval, allow: str) -> tuple[str, str]:
    """How a form is filled in, or that an address is opened."""
    if approval.kind != "input" or approval.context["input"]["mode"] == "url":
        return "open it", allow
    return "answer", " ".join([allow, *(f"--value {name}=…" for name in needed(approval))])


@app.command("rules")
def rules(
    all_: Annotated[bool, typer.Option("--all", help="Those of other folders too.")] = False,
    json: JsonOption = False,
) -> None:
    """List the rules that "always" has added: what is not asked about any more."""
    workspace = None if all_ else str(current().settings().workspace)

    async def read(records: Records) -> list[StandingRule]:
        return await records.rules(workspace)

    found = wait(with_records(read))
    if json:
        emit_all(found)
        return
    if not found:
        note("No rule was added by an answer.")
        return
    drawn = table("rule", "holds for", "until (UTC)", "what")
    for rule in found:
        until = "ended" if rule.is_over else when(rule.until) or "removed"
        place = f"{rule.scope} {rule.scope_id}".strip()
        drawn.add_row(rule.id, clean(place), until, clean(rule.words))
    console().print(drawn)


@app.command("forget")
def forget(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="A rule's id.")],
    json: JsonOption = False,
) -> None:
    """Remove a rule that "always" has added: such calls are asked about again."""

    async def remove(records: Records) -> StandingRule:
        return await records.forget_rule(rule)

    removed = wait(with_records(remove))
    if json:
        emit(removed.to_json())
        return
    note(f"removed: {removed.words}")


@dataclass(frozen=True)
class ApproveOptions(RuleOptions):
    """The options of ``corral approve``."""

    edit: Annotated[
        str | None, typer.Option(metavar="JSON", help="Call it with these arguments instead.")
    ] = None
    value: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUE", help="What a server asks for. May be repeated."),
    ] = None


@taking(ApproveOptions)
def approve(id: IdArgument, options: ApproveOptions) -> None:
    """Let a call be made; one in doubt is made again.

    A run that nobody waits for goes on at `corral resume RUN`.
    """
    from corral.runtime.approvals.replies import Approved

    args = parse_arguments(options.edit) if options.edit is not None else None
    if options.value:
        args = {**(args or {}), **_values(id, options.value)}
    always = options.chosen()
    if always is not None and options.dry_run:
        preview(id, always, "allow", json=options.json)
        return
    _answer(id, Approved(args, always or False), json=options.json)


def _values(id_: str, given: list[str]) -> JsonObject:
    """What was given for the fields of a server's form."""

    async def read(records: Records) -> Approval:
        return await records.approval(id_)

    approval = wait(with_records(read))
    if approval.kind != "input":
        raise UsageError(
            f"The question {approval.id} has no form to fill in.", hint="Use --edit for arguments."
        )
    return parse_values(given, approval)


@dataclass(frozen=True)
class DenyOptions(RuleOptions):
    """The options of ``corral deny``."""

    reason: Annotated[str | None, typer.Option(metavar="R", help="Told to the model.")] = None


@taking(DenyOptions)
def deny(id: IdArgument, options: DenyOptions) -> None:
    """Refuse a call, or fail one in doubt. The model reads the reason when the run goes on."""
    from corral.runtime.approvals.replies import Denied

    always = options.chosen()
    if always is not None and options.dry_run:
        preview(id, always, "deny", json=options.json)
        return
    if not (options.reason or "").strip():
        raise UsageError("There is no reason.", hint="The model reads it: add --reason '…'.")
    _answer(id, Denied(options.reason or "", always or False), json=options.json)


def give(
    id: IdArgument,
    result: Annotated[
        str, typer.Option(metavar="TEXT", help="The result; @FILE reads a file, - standard input.")
    ],
    json: JsonOption = False,
) -> None:
    """Give a call's result in the tool's place: the call is not made."""
    from corral.runtime.approvals.replies import Given

    _answer(id, Given(read_result(result)), json=json)


def stop(
    id: IdArgument,
    reason: Annotated[str, typer.Option(metavar="R", help="Kept with the run.")] = "",
    json: JsonOption = False,
) -> None:
    """Stop the run that asks. Its other questions need no answer any more."""
    from corral.runtime.approvals.replies import Stopped

    _answer(id, Stopped(reason) if reason.strip() else Stopped(), json=json)


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
    """A call's arguments as an object. Raises ``UsageError`` that shows where they break."""
    try:
        value = jsonlib.loads(text)
    except jsonlib.JSONDecodeError as error:
        raise UsageError(
            f"The arguments are not JSON: {error.msg} at character {error.pos + 1}.",
            hint='Give one JSON object, for example \'{"path": "notes.txt"}\'.',
        ) from error
    if not isinstance(value, dict):
        raise UsageError(
            f"The arguments are {type(value).__name__}, not an object.",
            hint='Give one JSON object, for example \'{"path": "notes.txt"}\'.',
        )
    return value


async def with_records(work: Callable[[Records], Coroutine[None, None, T]]) -> T:
    """Do something with the records of the current settings."""
    async with open_records() as records:
        return await work(records)


def _answer(id_: str, reply: Reply, *, json: bool) -> None:
    async def answer(records: Records) -> tuple[Approval, str]:
        by_itself = await who_goes_on(records, await records.approval(id_))
        return await records.answer(id_, reply, signed()), by_itself

    approval, by_itself = wait(with_records(answer))
    if json:
        emit(approval.to_json())
        return
    for warning in approval.warnings:
        note(f"! {warning}")
    note(f"{approval.status}: {approval.tool} of run {approval.run}")
    if approval.alike:
        count = f"{len(approval.alike)} other question{'s' if len(approval.alike) > 1 else ''}"
        note(f"the rule has answered {count}, too: {', '.join(approval.alike)}")
    if approval.status != "stopped":
        note(by_itself or f"go on with: {current().command('resume', approval.run)}")
