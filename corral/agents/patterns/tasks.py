"""Tasks that a model makes for others: as it gives them, and as they are done and reported."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, TypedDict, TypeVar, cast

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import SkipJsonSchema

from corral.agents.history import History
from corral.agents.kit import Kit
from corral.agents.patterns.options import Options
from corral.agents.patterns.prompts import ELSE, LONGEST, described, framed, prompt
from corral.agents.patterns.roles import Role

AnswerT = TypeVar("AnswerT", bound=BaseModel)

_ANSWER = "Answer the request from these results. Say so where something failed or is missing."


class TaskOptions(Options):
    """How tasks are done."""

    parallel: int = Field(default=4, ge=1, le=64, description="Tasks at the same time at most.")
    history: History = Field(
        default="nothing", description="What sub-agents see of the conversation."
    )


class Task(BaseModel):
    """A task as a model gives it. ``worker`` is whoever it names, known or not."""

    task: str = Field(min_length=1, max_length=2000, description="What to do, in full.")
    worker: str = ""


class Assigned(TypedDict):
    """A task with its number, from 1, and who does it; empty for the agent itself."""

    number: int
    task: str
    worker: str


class Done(Assigned):
    """A task with what came of it."""

    is_error: bool
    message: AIMessage


class Crew:
    """Who gives tasks, does them, and answers from what came of them.

    The sub-agent ``head`` gives them, the others of the team are the ``workers``. The agent itself
    stands in for the head where there is none, does what is nobody's, and answers.
    """

    def __init__(self, kit: Kit, head: str, options: TaskOptions) -> None:
        self._kit = kit
        self._history: History = options.history
        self._limit = asyncio.Semaphore(options.parallel)
        self.head = Role(kit, head, options.history)
        self.workers = [one.name for one in kit.team if one.name != head]

    def who_can(self) -> str:
        """The workers and what they are for, as lines of a prompt; empty where there are none."""
        if not self.workers:
            return ""
        team = {one.name: one.description for one in self._kit.team if one.name in self.workers}
        return f"Workers:\n{described({**team, self._kit.agent.name: ELSE})}"

    def bounded(self, answer: type[AnswerT], item: type[Task], most: int) -> type[AnswerT]:
        """An answer with ``tasks``, of which its schema wants no more, each for one of the workers.

        A model that a schema holds can give nothing else; of another that gives more, or other
        workers, the answer is valid, and the caller takes what it can use.
        """
        named = [*self.workers, self._kit.agent.name] if self.workers else []
        who = Field(default="", description="Who does it.", json_schema_extra={"enum": [*named]})
        worker: Any = (str, who) if named else (SkipJsonSchema[str], "")
        kind: Any = cast("Any", create_model)(item.__name__, __base__=item, worker=worker)
        default: Any = ... if answer.model_fields["tasks"].is_required() else []
        tasks = (list[kind], Field(default, json_schema_extra={"maxItems": most}))
        model: Any = cast("Any", create_model)(answer.__name__, __base__=answer, tasks=tasks)
        return cast("type[AnswerT]", model)

    async def do(self, task: Assigned, messages: Sequence[AnyMessage], asked: HumanMessage) -> Done:
        """Have a task done, which ``asked`` is about, after the conversation."""
        worker = Role(self._kit.untyped, task["worker"], self._history)
        async with self._limit:
            report = await worker.write(messages, asked)
        return Done(
            number=task["number"],
            task=task["task"],
            worker=task["worker"],
            is_error=report.is_error,
            message=report.message,
        )

    async def answer(self, messages: Sequence[AnyMessage], results: Sequence[Done]) -> AIMessage:
        """The answer to the request."""
        asked = prompt(_ANSWER, reported(results), of=sources(results))
        return await self._kit.ask([*messages, asked], tools=False)


def sources(results: Sequence[Done]) -> list[AIMessage]:
    """The messages that results came in."""
    return [one["message"] for one in results]


def reported(results: Sequence[Done]) -> str:
    """What came of tasks, as data of a prompt, in the order of their numbers."""
    return "\n\n".join(
        f"Task {one['number']}: {' '.join(one['task'].split())}\n{_outcome(one)}"
        for one in sorted(results, key=lambda one: one["number"])
    )


def _outcome(one: Done) -> str:
    tag = "failure" if one["is_error"] else "result"
    return framed(tag, str(one["message"].text), tokens=LONGEST) or f"<{tag}></{tag}>"
