"""A new run that shares another's past and goes on live from there: fork."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from corral.cli.agent_file import read_agent
from corral.cli.context import current, open_records, wait
from corral.cli.editor import edit
from corral.cli.fork_changes import Before, Changes, read_result, require_changes
from corral.cli.options import taking
from corral.cli.output import clean, console, emit, note
from corral.errors import UsageError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from corral.agents.app import Corral
    from corral.runtime.events import Event
    from corral.runtime.fork_plan import ForkPlan
    from corral.runtime.runs import RunRow
    from corral.runtime.views import EffectView, RunView

_LISTED = 200

RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="A run's id, or its beginning, or `last`.")
]


@dataclass(frozen=True)
class Options:
    """The options of ``corral fork``."""

    at: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="The effect: its number in the trace.")
    ] = None
    model: Annotated[
        str | None, typer.Option(metavar="M", help="Go on with this model, as `corral run` takes.")
    ] = None
    set_result: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Take this for the effect's result; - reads it here."),
    ] = None
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Go on as if this had been asked.")
    ] = None
    edit_prompt: Annotated[
        bool, typer.Option("--edit-prompt", help="The same, written in your editor.")
    ] = False
    agent: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Go on with the agent in this file.")
    ] = None
    again: Annotated[
        bool, typer.Option("--again", help="Change nothing: make it and what follows once more.")
    ] = False
    policy: Annotated[
        str | None,
        typer.Option(metavar="P", help="read-only, ask, workspace, or a policy file."),
    ] = None
    max_steps: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Allow each agent this many steps.")
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be shared and made anew.")
    ] = False
    json: Annotated[bool, typer.Option("--json", help="Events as JSON, one a line.")] = False


@taking(Options)
def fork(run: RunArgument, options: Options) -> int:
    """Start a new run that shares a run's past up to an effect, and changes something there.

    What is before effect N is replayed and not made again; effect N and what follows are made
    anew, with the change. What was spent before counts towards the limits. Exits as `corral run`.
    """
    from corral.runtime.entries import Parting
    from corral.runtime.fork_plan import fork_at, fork_plan
    from corral.runtime.origin import changed_by_moving

    before = wait(_load(run))
    at = _choose(before) if options.at is None else options.at
    point = fork_at(before.run.run, before.effects, at)
    changes = _changes(before, point, options)
    named = {**dict.fromkeys(changes.names(), True), **changed_by_moving(before.run.origin)}
    left = Parting(before.run.run, at, named)
    plan = fork_plan(before.run, before.effects, before.rows, left)
    if not options.dry_run:
        return _follow(before.run, plan, changes, options)
    if options.json:
        emit({"run": before.run.run, **plan.to_json(), "changes": list(changes.names())})
    else:
        _tell(before.run, plan, changes)
    return 0


async def _load(run: str) -> Before:
    from corral.runtime import runs
    from corral.runtime.entries import journal_rows
    from corral.runtime.fork_plan import refuse_if_live
    from corral.runtime.origin import require_content

    def work(connection: Connection) -> tuple[RunRow, tuple[Any, ...]]:
        row = runs.load(connection, run)
        refuse_if_live(connection, row.id)
        return row, tuple(journal_rows(connection, row.id))

    async with open_records() as records:
        row, rows = await records.database.read(work)
        require_content(row.id, row.origin)
        effects = tuple(await records.trace(row.id))
        return Before(await records.run(row.id), row.spec.get("agent") or {}, effects, rows)


def _choose(before: Before) -> int:
    """Ask at which effect. Raises ``UsageError`` where nobody can answer."""
    from corral.cli.trace.words import asked
    from corral.runtime.paths import BESIDE

    run = before.run.run
    points = [effect for effect in before.effects if effect.kind not in BESIDE]
    lines = [f"{one.seq:>4} {clean(one.kind)} {asked(one, 80)}" for one in points]
    if not (sys.stdin.isatty() and sys.stderr.isatty()) or not points:
        command = current().command("fork", run, "--at")
        raise UsageError(
            f"At which effect of the run {run}? It has {len(before.effects)}.",
            hint="\n".join([f"Write {command} N, with one of these or another:", *lines[-6:]]),
        )
    if len(lines) > _LISTED:
        lines = [f"… {len(lines) - _LISTED} earlier ones: see corral trace", *lines[-_LISTED:]]
    for line in lines:
        note(line)
    found: int = typer.prompt("Fork at effect", type=int, err=True)
    return found


def _changes(before: Before, point: EffectView, options: Options) -> Changes:
    """The changes that the options ask for. Raises ``UsageError`` when nothing would change."""
    prompt = options.prompt
    if options.edit_prompt:
        if prompt is not None:
            raise UsageError(
                "--prompt and --edit-prompt are two ways to say one thing.",
                hint="Leave one of them out.",
            )
        prompt = edit(before.run.prompt).rstrip("\n")
    changes = Changes(
        at=point.seq,
        model=options.model,
        prompt=prompt,
        agent=read_agent(options.agent, before.run.agent) if options.agent else None,
        result=read_result(options.set_result, point) if options.set_result else None,
    )
    require_changes(changes, before, point, again=options.again)
    return changes


def _follow(run: RunView, plan: ForkPlan, changes: Changes, options: Options) -> int:
    from corral.agents.options import Fork, RunOptions
    from corral.cli.follow import follow
    from corral.policies.limits import RunLimits
    from corral.runtime.events import RunStarted

    started: list[str] = []
    fork = Fork(
        at=changes.at,
        model=changes.model,
        agent=changes.agent,
        prompt=changes.prompt,
        result=changes.result,
    )

    async def begin(corral: Corral) -> AsyncIterator[Event]:
        limits = RunLimits(max_steps=options.max_steps) if options.max_steps else None
        chosen = RunOptions(policy=options.policy, limits=limits)
        async with aclosing(corral.stream_fork(run.run, fork, chosen)) as events:
            async for event in events:
                if isinstance(event, RunStarted):
                    started.append(event.run)
                yield event

    if not options.json:
        _say_what_is_kept(run, plan)
    code = follow(begin, json=options.json)
    if started and not options.json:
        note(f"compare: {current().command('diff', run.run, started[0])}")
    return code


def _say_what_is_kept(run: RunView, plan: ForkPlan) -> None:
    note(f"fork of {run.run} at effect {plan.at.seq}: {_counted(plan)} shared")
    if plan.siblings:
        numbers = ", ".join(str(effect.seq) for effect in plan.siblings)
        note(f"kept, because they were made beside it and not after it: {numbers}")
    if run.origin is not None:
        note(f"the run came from elsewhere ({clean(run.origin)}), and so did its agent's words")


def _counted(plan: ForkPlan) -> str:
    kinds = Counter(effect.kind for effect in plan.kept)
    parts = [f"{len(plan.kept)} effect{'s' if len(plan.kept) != 1 else ''}"]
    some = [f"{kinds[kind]} {kind}" for kind in ("model", "tool", "agent") if kinds[kind]]
    return parts[0] + (f" ({', '.join(some)})" if some else "")


def _tell(run: RunView, plan: ForkPlan, changes: Changes) -> None:
    """Say what a fork would do, on standard output."""
    from corral.cli.trace.words import asked

    out = console()
    used = plan.spent
    cost = f", ${used.cost_usd:.4f}" if used.cost_usd else ""
    out.print(f"fork of {run.run} at effect {plan.at.seq}", style="bold")
    out.print(f"shared   {_counted(plan)}; nothing of it is made again")
    out.print(
        f"spent    {plan.steps} steps, {used.input_tokens}+{used.output_tokens} tokens{cost}"
        " count towards the limits"
    )
    for change in changes.in_words():
        out.print(f"changed  {change}")
    for effect in plan.siblings:
        out.print(f"kept     {effect.seq} {clean(effect.kind)} {asked(effect, 80)}, made beside it")
    if not plan.again:
        out.print("live     what comes after it")
        return
    out.print(f"live     what comes then. {run.run} made this, and the fork may make it again:")
    repeats = {effect.seq for effect in plan.repeats}
    for effect in plan.again[:_LISTED]:
        line = f"{effect.seq:>8} {clean(effect.kind)} {asked(effect, 80)}"
        if effect.seq in repeats:
            out.print(f"{line}  changes something", style="yellow")
        else:
            out.print(line)
    if len(plan.again) > _LISTED:
        out.print(f"         … {len(plan.again) - _LISTED} more")
    if repeats:
        calls = f"{len(repeats)} call{'s' if len(repeats) != 1 else ''}"
        out.print(f"{calls} may change something again; policy decides about each of them anew")
