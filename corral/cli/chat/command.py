"""``corral chat``: starts and ends a conversation."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current, open_records, wait
from corral.cli.output import clean, note
from corral.cli.run import AgentOption, ModelOption, PolicyOption, ThreadOption
from corral.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from corral.cli.chat.session import Choices, Session
    from corral.runtime.config import Settings

TINY = (
    "This is SmolLM2-135M, a very small model that runs anywhere and knows little.\n"
    "A better one is one flag away: --model M. What M can be: corral models list"
)


def chat(
    model: ModelOption = None,
    agent: AgentOption = None,
    thread: ThreadOption = None,
    policy: PolicyOption = None,
    go_on: Annotated[
        bool, typer.Option("--continue", "-c", help="Go on with this folder's newest thread.")
    ] = False,
) -> None:
    """Talk with an agent. It asks before it acts; Ctrl-C stops a step, Ctrl-D leaves."""
    from corral.cli.chat.session import Choices

    if thread is not None and go_on:
        raise UsageError("--thread and --continue were both given.", hint="Leave one of them out.")
    settings = current().settings()
    wait(_chat(settings, Choices(model, agent, policy, thread), go_on=go_on))


async def _chat(settings: Settings, choices: Choices, *, go_on: bool) -> None:
    from corral.cli.chat.keyboard import open_keyboard
    from corral.cli.chat.session import Session

    if go_on or choices.thread is not None:
        choices.thread = await _find_thread(settings, choices.thread)
    keyboard = open_keyboard(settings.home / "history")
    session = Session(settings, keyboard, choices)
    try:
        _banner(session)
        await session.take_up()
        await _converse(session)
    finally:
        await session.close()
    _farewell(session)


async def _find_thread(settings: Settings, wanted: str | None) -> str:
    """The one thread that ``wanted`` begins, or the newest of the workspace."""
    async with open_records() as records:
        threads = await records.threads(limit=10_000)
    if wanted is None:
        here = [each.thread for each in threads if each.workspace == str(settings.workspace)]
        if not here:
            raise UsageError(
                f"There is no thread yet in {settings.workspace}.",
                hint="Start one: corral chat",
            )
        return here[0]
    matches = [each.thread for each in threads if each.thread.startswith(wanted)]
    if wanted in matches:
        return wanted
    if len(matches) != 1:
        count = len(matches) or "No"
        raise NotFoundError(
            f"{count} threads are named {wanted} or begin so.", hint="List them: corral threads"
        )
    return matches[0]


def _banner(session: Session) -> None:
    settings, choices, line = session.settings, session.choices, session.screen.line
    model = choices.model or settings.model
    line(f"corral · model {clean(model)} · policy {clean(choices.policy or settings.policy)}")
    line(f"workspace {clean(str(settings.workspace))} · thread {choices.thread or 'new'}")
    if model == "local":
        line(TINY, style="yellow")
    if settings.sandbox == "none":
        line("There is no sandbox: tools can do what you can do.", style="yellow")
    line("/help lists the commands.\n", style="dim")


async def _converse(session: Session) -> None:
    from corral.cli.chat import slash

    while True:
        try:
            line = await session.keyboard.prompt()
        except KeyboardInterrupt:
            session.screen.line("Ctrl-D or /quit leaves.", style="dim")
            continue
        if line is None:
            return
        if not line.strip():
            continue
        if not line.startswith("/"):
            await session.say(line)
        elif not await slash.handle(session, line):
            return


def _farewell(session: Session) -> None:
    thread = session.choices.thread
    if thread is not None:
        note(f"Come back with: {current().command('chat', '--thread', thread)}")
    sys.stdout.flush()
