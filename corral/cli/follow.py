"""Follows one run from the shell: shows its events, says how it ended, gives the exit code."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from corral.cli.approvals import ways_to_answer
from corral.cli.context import closing, current, open_runtime, wait, warn_if_unconfined
from corral.cli.input_form import is_held
from corral.cli.narrator import Narrator
from corral.cli.output import clean, console, emit, note, report
from corral.cli.question import question
from corral.cli.screen import Screen
from corral.cli.waiting import waiting_at
from corral.errors import RunError
from corral.policies.budgets import LIMIT_OF
from corral.policies.checks import REFUSED
from corral.runtime.approvals.replies import STOPPED_AT
from corral.runtime.events import ApprovalRequested, Event, RunFinished, RunStarted
from corral.runtime.views import Approval, RunResult

if TYPE_CHECKING:
    from corral.agents.app import Corral

EXIT_CODES = {"completed": 0, "failed": 1, "running": 1, "paused": 3, "stopped": 4}
"""The exit code for every status that a run can end with."""

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the signal's number."""


def follow(
    start: Callable[[Corral], AsyncIterator[Event]],
    *,
    json: bool,
    waits: bool = False,
    again: str = "",
) -> int:
    """Show the events of the run that ``start`` begins; return its exit code.

    A run that ``waits`` for answers from elsewhere shows its questions when they are asked.
    ``again`` is what begins it anew, where a run that has failed cannot be gone on with.
    Ctrl-C stops the run; what it has done is kept, and the user is told how to go on.
    """
    watch = _Watch(json, waits=waits)
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
        conclude(watch.result, again)
    return EXIT_CODES[watch.result.status]


async def _drain(start: Callable[[Corral], AsyncIterator[Event]], watch: _Watch) -> None:
    async with open_runtime() as corral:
        warn_if_unconfined(corral.settings)
        try:
            async with closing(start(corral)) as events:
                async for event in events:
                    watch.tell(event)
        finally:
            watch.end()


class _Watch:
    """Shows events in one of two ways, and remembers the run and its result."""

    def __init__(self, json: bool, *, waits: bool) -> None:
        self.result: RunResult | None = None
        self._waits = waits
        self._run: str | None = None
        self._waiting = ExitStack()
        self._screen = None if json else Screen()
        self._narrator = Narrator(self._screen) if self._screen else None

    def tell(self, event: Event) -> None:
        if isinstance(event, RunStarted):
            self._began(event.run)
        if isinstance(event, RunFinished):
            self.result = event.result
        if self._narrator:
            self._narrator.tell(event)
            if isinstance(event, ApprovalRequested) and (self._waits or is_held(event.approval)):
                self.close()
                _show(event.approval, current().settings().workspace)
        else:
            emit(event.to_json())

    def close(self) -> None:
        if self._screen:
            self._screen.idle()

    def end(self) -> None:
        """Nothing more will happen here."""
        self.close()
        self._waiting.close()

    def _began(self, run: str) -> None:
        if self._waits and self._run is None:
            self._waiting.enter_context(waiting_at(current().settings().home, run))
        self._run = run

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


def conclude(result: RunResult, again: str = "") -> None:
    """Say on standard error how a run ended and what can be done next (``again``: ``follow``)."""
    command = current().command
    match result.status:
        case "paused":
            _waiting(result)
        case "stopped":
            report(
                f"stopped: {result.error or 'a limit was reached'}", f"Go on with: {_on(result)}"
            )
        case "failed":
            hint = f"What happened: {command('trace', result.run)}\n"
            on = f"Try again from there: {command('resume', result.run)}"
            hint += f"Try again: {again}" if again else on
            report(result.error or "the run failed", hint)
        case "completed" | "running":
            pass
    used = result.usage
    facts = [f"run {result.run}", f"thread {result.thread}", f"{result.steps} steps"]
    facts.append(f"{used.input_tokens}+{used.output_tokens} tokens")
    if used.cost_usd:
        facts.append(f"${used.cost_usd:.4f}")
    console(sys.stderr).print(" · ".join(facts), style="dim")


def _on(result: RunResult) -> str:
    """The command that goes on after a run was stopped."""
    command = current().command
    error = result.error or ""
    if error.startswith(STOPPED_AT) or f" {REFUSED}: the check" in error:  # the run ends there
        return f"{command('run', '--thread', result.thread)} '…'"
    if error.startswith(LIMIT_OF) and not error.startswith(f"{LIMIT_OF} the run's"):
        return f"{command('resume', result.run)}, with a higher limit in your configuration"
    if error.startswith(LIMIT_OF):
        return f"{command('resume', result.run)} --budget WHAT=LIMIT"
    return command("resume", result.run, "--max-steps", str(result.steps * 2 or 12))


def _waiting(result: RunResult) -> None:
    """List a paused run's questions, each with the commands that answer it."""
    command = current().command
    workspace = current().settings().workspace
    console(sys.stderr).print(f"\npaused: {_counted(result)}", style="yellow")
    for approval in result.approvals:
        _show(approval, workspace)
    note(f"\nthen go on: {command('resume', result.run)}")


def _show(approval: Approval, workspace: Path) -> None:
    out = console(sys.stderr)
    out.print(f"\n{clean(approval.id)}")
    out.print(question(approval, workspace), end="")
    for line in ways_to_answer(approval):
        note(f"  {line}")


def _counted(result: RunResult) -> str:
    kinds = Counter(approval.kind for approval in result.approvals)
    calls, doubts, asked = kinds["tool"], kinds["in_doubt"], kinds["input"]
    others = kinds["budget"] + kinds["loop"]
    counted = (
        (calls, f"call{_s(calls)} wait{'s' if calls == 1 else ''} for your approval"),
        (doubts, f"call{_s(doubts)} in doubt"),
        (asked, f"question{_s(asked)} of a tool's server"),
        (others, f"question{_s(others)} about how to go on"),
    )
    return ", ".join(f"{count} {words}" for count, words in counted if count)


def _s(count: int) -> str:
    return "" if count == 1 else "s"
