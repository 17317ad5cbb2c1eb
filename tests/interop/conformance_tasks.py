"""The fixture's tasks, in memory: what a service of ours keeps on disk."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import mcp_types as types

from corral.errors import NotFoundError
from corral.mcp_servers.serving.contract import Caller, Elicited, Question, TaskState, TaskStatus

_FORM = {"type": "object", "properties": {"confirm": {"type": "boolean"}}, "required": ["confirm"]}

Body = Callable[["FixtureTask"], Awaitable[types.CallToolResult]]


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@dataclass
class FixtureTask:
    owner: str
    name: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    created: str = field(default_factory=_now)
    updated: str = field(default_factory=_now)
    status: TaskStatus = "working"
    result: types.CallToolResult | None = None
    error: str = ""
    questions: dict[str, Question] = field(default_factory=dict)
    answers: dict[str, Elicited] = field(default_factory=dict)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    working: asyncio.Task[None] | None = None

    def turn(self, status: TaskStatus) -> None:
        if self.status not in ("completed", "failed", "cancelled"):
            self.status, self.updated = status, _now()

    def state(self) -> TaskState:
        return TaskState(
            self.name,
            self.status,
            self.created,
            self.updated,
            result=self.result if self.status == "completed" else None,
            error=self.error,
            questions=dict(self.questions) if self.status == "input_required" else None,
        )

    async def ask(self, *names: str) -> dict[str, Elicited]:
        self.questions = {name: Question(f"{name}?", _FORM) for name in names}
        self.turn("input_required")
        await self.answered.wait()
        return self.answers

    def answer(self, answers: dict[str, Elicited]) -> None:
        for name, answer in answers.items():
            del self.questions[name]
            self.answers[name] = answer
        if not self.questions:
            self.turn("working")
            self.answered.set()

    def cancel(self) -> None:
        self.turn("cancelled")
        if self.working is not None:
            self.working.cancel()


class FixtureTasks:
    def __init__(self) -> None:
        self._tasks: dict[str, FixtureTask] = {}

    def begin(self, caller: Caller, body: Body) -> str:
        task = FixtureTask(caller.owner)
        self._tasks[task.name] = task
        task.working = asyncio.create_task(self._work(task, body))
        return task.name

    def find(self, caller: Caller, name: str) -> FixtureTask:
        task = self._tasks.get(name)
        if task is None or task.owner != caller.owner:
            raise NotFoundError("There is no such task.", hint="Call the tool again.")
        return task

    async def _work(self, task: FixtureTask, body: Body) -> None:
        try:
            task.result = await body(task)
            task.turn("completed")
        except RuntimeError:
            task.error = "It failed inside."
            task.turn("failed")


def confirm_delete(filename: str) -> Body:
    async def body(task: FixtureTask) -> types.CallToolResult:
        answers = await task.ask("confirm")
        said = f"deleted {filename}: {answers['confirm'].action}"
        return types.CallToolResult(content=[types.TextContent(text=said)])

    return body


async def multi_input(task: FixtureTask) -> types.CallToolResult:
    answers = await task.ask("first", "second")
    return types.CallToolResult(content=[types.TextContent(text=", ".join(sorted(answers)))])
