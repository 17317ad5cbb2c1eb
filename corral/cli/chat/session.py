"""The conversation: prompts in, steps out, questions in between."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from corral.cli.approvals import ways_to_answer
from corral.cli.chat.background import BackgroundRuntime
from corral.cli.chat.keyboard import Keyboard
from corral.cli.chat.questions import Questioner
from corral.cli.context import closing, current
from corral.cli.input_form import is_held
from corral.cli.narrator import Narrator
from corral.cli.output import clean, one_line
from corral.cli.preview import call_text
from corral.cli.screen import Screen
from corral.cli.waiting import waiting_at
from corral.errors import CorralError
from corral.runtime.events import ApprovalRequested, Event
from corral.runtime.views import RunResult, RunView

if TYPE_CHECKING:
    from corral.agents.app import Corral
    from corral.runtime.config import Settings

LAST_RUNS = 3
"""How many earlier exchanges are shown when a thread is taken up again."""

WAITED_FOR = 1
"""The priority of what a person waits for: before runs that nobody looks at."""


@dataclass
class Choices:
    """What the user can change while the conversation goes on; ``None`` means as configured."""

    model: str | None = None
    agent: str | None = None
    policy: str | None = None
    thread: str | None = None
    reasoning: bool = False
    attach: list[str] = field(default_factory=list)


class Session:
    """One conversation in the terminal.

    The runtime is opened in the background. A step is one run or one resume; Ctrl-C ends the
    step and keeps the conversation.
    """

    def __init__(self, settings: Settings, keyboard: Keyboard, choices: Choices) -> None:
        self.settings = settings
        self.keyboard = keyboard
        self.choices = choices
        self.last_run: str | None = None
        self.screen = Screen(lines=sys.stdout)
        self._runtime = BackgroundRuntime(settings, agent=choices.agent, model=choices.model)

    async def runtime(self) -> Corral:
        """The open runtime; waits for it when the user was faster."""
        return await self._runtime.get()

    async def close(self) -> None:
        """Stop the model and the servers."""
        self.screen.idle()
        await self._runtime.close()

    async def take_up(self) -> None:
        """Show where the thread stood, and go on with what waits in it."""
        if self.choices.thread is None:
            return
        records = (await self.runtime()).records
        runs = await records.runs(thread=self.choices.thread, limit=LAST_RUNS, rewound=False)
        for run in reversed(runs):
            self._show(run)
        if not runs:
            return
        newest = runs[0]
        self.last_run = newest.run
        if newest.status == "paused":
            await self.settle_run(newest.run)
        elif newest.status == "running":
            await self._offer_to_go_on(newest)

    def _show(self, run: RunView) -> None:
        self.screen.line(f"» {one_line(run.prompt, 300)}", style="bold")
        if run.output:
            self.screen.line(clean(run.output))
        elif run.status != "running":
            self.screen.line(
                f"({run.status}: {one_line(run.error or 'no answer', 200)})", style="dim"
            )

    async def _offer_to_go_on(self, run: RunView) -> None:
        answer = await self.keyboard.ask("This run was cut off. Go on with it? [y/n] » ")
        if (answer or "").strip().lower() in {"y", "yes"}:
            await self.go_on(run.run)

    async def say(self, prompt: str) -> None:
        """Run the agent on ``prompt`` and ask what it needs to ask."""
        choices = self.choices

        def begin(corral: Corral) -> AsyncIterator[Event]:
            from corral.agents.options import RunOptions  # loaded by now, in the background
            from corral.runtime.attachments import Attachment

            files = tuple(map(Attachment.read, choices.attach))
            choices.attach.clear()
            options = RunOptions(
                agent=choices.agent,
                model=choices.model,
                thread=choices.thread,
                policy=choices.policy,
                attachments=files,
                priority=WAITED_FOR,
            )
            return corral.stream(prompt, options)

        await self._settle(await self._step(begin))

    async def _mention_waiting(self, corral: Corral) -> None:
        """Remind of questions in other threads, as a REPL that was killed leaves them."""
        waiting = await corral.records.approvals()
        threads = sorted({approval.thread for approval in waiting})
        if threads:
            there = ", ".join(threads[:5])
            self.screen.line(
                f"! questions wait in {there}: /threads THREAD goes there", style="yellow"
            )

    async def go_on(self, run: str) -> None:
        """Resume a run and ask what it needs to ask."""

        def begin(corral: Corral) -> AsyncIterator[Event]:
            from corral.agents.options import RunOptions  # loaded by now, in the background

            return corral.stream_resume(run, RunOptions(priority=WAITED_FOR))

        await self._settle(await self._step(begin))

    async def fork(self, run: str, at: int, prompt: str | None) -> None:
        """Go on from effect ``at`` of a run, in a thread of its own, with the model chosen here."""
        model = self.choices.model

        def begin(corral: Corral) -> AsyncIterator[Event]:
            from corral.agents.options import Fork, RunOptions  # loaded by now, in the background

            fork = Fork(at=at, prompt=prompt, model=model)
            return corral.stream_fork(run, fork, RunOptions(priority=WAITED_FOR))

        await self._settle(await self._step(begin))

    async def settle_run(self, run: str) -> None:
        """Ask the questions of a paused run, then resume it."""
        corral = await self.runtime()
        waiting = tuple(await corral.records.approvals(run=run))
        with waiting_at(self.settings.home, run):
            answered = await self._questioner(corral).answer_all(waiting)
        if answered:
            await self.go_on(run)
            return
        command = current().command
        self.screen.line(
            "Left for later. Answer with /approvals, or give it up with /cancel; or elsewhere:",
            style="dim",
        )
        for approval in await corral.records.approvals(run=run):
            call = call_text(approval.tool, approval.args, 70)
            self.screen.line(call, style="dim")
            for line in ways_to_answer(approval):
                self.screen.line(f"  {line}", style="dim")
        self.screen.line(f"  then {command('resume', run)}", style="dim")

    def _questioner(self, corral: Corral) -> Questioner:
        workspace = self.settings.workspace
        return Questioner(corral.records, self.keyboard, self.screen, workspace)

    async def _settle(self, result: RunResult | None) -> None:
        """Do what the end of a step asks for."""
        if result is None:
            return
        match result.status:
            case "paused":
                await self.settle_run(result.run)
            case "stopped" | "failed":
                self.screen.line(f"{result.status}: {clean(result.error or '')}", style="red")
                self.screen.line("  /trace shows what happened.", style="dim")
            case "completed" | "running":
                pass

    async def _step(self, begin: Callable[[Corral], AsyncIterator[Event]]) -> RunResult | None:
        """Follow one run until it ends, pauses or is stopped by Ctrl-C (``None``)."""
        narrator = Narrator(self.screen, reasoning=self.choices.reasoning)
        await self.interruptible(self._follow(begin, narrator))
        if narrator.started:
            self.last_run = narrator.started.run
            self.choices.thread = narrator.started.thread
        return narrator.result

    async def interruptible(self, work: Coroutine[None, None, None]) -> None:
        """Await ``work``; Ctrl-C and errors end it, are said, and the conversation goes on."""
        task = asyncio.create_task(work)
        try:
            with _interrupting(task):
                await task
        except asyncio.CancelledError:
            self.screen.idle()
            if not task.cancelled() or _is_cancelled():
                raise
            self.screen.line("stopped; what it has done is kept", style="yellow")
        except CorralError as error:
            self.screen.idle()
            if self._runtime.failed:
                raise  # no prompt can be answered: leave, with the reason
            self.screen.line(f"error: {clean(str(error))}", style="red")

    async def _follow(
        self, begin: Callable[[Corral], AsyncIterator[Event]], narrator: Narrator
    ) -> None:
        self.screen.busy(lambda: "starting")
        corral = await self.runtime()
        if self.choices.thread is None:
            await self._mention_waiting(corral)
        async with closing(begin(corral)) as events:
            async for event in events:
                narrator.tell(event)
                if isinstance(event, ApprovalRequested) and is_held(event.approval):
                    await self._questioner(corral).answer_all((event.approval,))


def _is_cancelled() -> bool:
    """Whether it is this task that is to end, and not only the step."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


@contextmanager
def _interrupting(task: asyncio.Task[None]) -> Iterator[None]:
    """While the body runs, Ctrl-C cancels ``task`` and nothing else."""
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before or signal.default_int_handler)
