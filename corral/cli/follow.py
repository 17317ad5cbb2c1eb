"""Follows one run from the shell: shows its events, says how it ended, gives the exit code."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from corral.cli.approvals import ways_to_answer
from corral.cli.context import closing, current, open_runtime, wait
from corral.cli.narrator import Narrator
from corral.cli.output import clean, console, emit, note, report
from corral.cli.render import question
from corral.cli.screen import Screen
from corral.errors import RunError
from corral.runtime.events import Event, RunFinished, RunStarted
from corral.runtime.views import RunResult

if TYPE_CHECKING:
    from corral.agents.app import Corral

EXIT_CODES = {"completed": 0, "failed": 1, "running": 1, "paused": 3, "stopped": 4}
"""The exit code for every status that a run can end with."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the signal's number."""


def follow(start: Callable[[Corral], AsyncIterator[Event]], *, json: bool) -> int:
    """Show the events of the run that ``start`` begins; return its exit code.

    Ctrl-C stops the run; what it has done is kept, and the user is told how to go on.
    """
    watch = _Watch(json)
    try:
        wait(_drain(start, watch))
    except KeyboardInterrupt:
        watch.interrupted()
        return INTERRUPTED
    except RunError as error:
        watch.broke_off(error)
        raise
    if watch.result is None:
        return 1
    if not json:
        conclude(watch.result)
    return EXIT_CODES[watch.result.status]


async def _drain(start: Callable[[Corral], AsyncIterator[Event]], watch: _Watch) -> None:
    async with open_runtime() as corral:
        try:
            async with closing(start(corral)) as events:
                async for event in events:
                    watch.tell(event)
        finally:
            watch.close()


class _Watch:
    """Shows events in one of two ways, and remembers the run and its result."""

    def __init__(self, json: bool) -> None:
        self.result: RunResult | None = None
        self._run: str | None = None
        self._screen = None if json else Screen()
        self._narrator = Narrator(self._screen) if self._screen else None

    def tell(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._run = event.run
        if isinstance(event, RunFinished):
            self.result = event.result
        if self._narrator:
            self._narrator.tell(event)
        else:
            emit(event.to_json())

    def close(self) -> None:
        if self._screen:
            self._screen.idle()

    def interrupted(self) -> None:
        if self._run is None:
            report("interrupted before the run began")
            return
        report(
            f"interrupted: run {self._run} is stopped, and what it has done is kept",
            f"Go on with: {current().command('resume', self._run)}",
        )

    def broke_off(self, error: RunError) -> None:
        """Add to an error that no result could be stored for how its run goes on."""
        if self._run is not None:
            more = f"Go on with: {current().command('resume', self._run)}"
            error.hint = f"{error.hint}\n{more}".strip()


def conclude(result: RunResult) -> None:
    """Say on standard error how a run ended and what can be done next."""
    command = current().command
    match result.status:
        case "paused":
            _waiting(result)
        case "stopped":
            more = command("resume", result.run, "--max-steps", str(result.steps * 2 or 12))
            report(f"stopped: {result.error or 'a limit was reached'}", f"Go on with: {more}")
        case "failed":
            hint = f"What happened: {command('trace', result.run)}\n"
            hint += f"Try again from there: {command('resume', result.run)}"
            report(result.error or "the run failed", hint)
        case "completed" | "running":
            pass
    used = result.usage
    facts = [f"run {result.run}", f"thread {result.thread}", f"{result.steps} steps"]
    facts.append(f"{used.input_tokens}+{used.output_tokens} tokens")
    if used.cost_usd:
        facts.append(f"${used.cost_usd:.4f}")
    console(sys.stderr).print(" · ".join(facts), style="dim")


def _waiting(result: RunResult) -> None:
    """List a paused run's questions, each with the commands that answer it."""
    command = current().command
    workspace = current().settings().workspace
    out = console(sys.stderr)
    out.print(f"\npaused: {_counted(result)}", style="yellow")
    for approval in result.approvals:
        out.print(f"\n{clean(approval.id)}")
        out.print(question(approval, workspace), end="")
        for line in ways_to_answer(approval):
            note(f"  {line}")
    note(f"\nthen go on: {command('resume', result.run)}")


def _counted(result: RunResult) -> str:
    doubts = sum(approval.kind == "in_doubt" for approval in result.approvals)
    kinds = ((len(result.approvals) - doubts, "for your approval"), (doubts, "in doubt"))
    return ", ".join(
        f"{count} call{'s' if count != 1 else ''} "
        + (words if words == "in doubt" else f"wait{'s' if count == 1 else ''} {words}")
        for count, words in kinds
        if count
    )
