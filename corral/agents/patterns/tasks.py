"""Tasks that a model makes for others: as it gives them, and as they are done and reported."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict, TypeVar, cast

from langchain_core.messages import AIMessage
from pydantic import BaseModel, Field, create_model
from pydantic.json_schema import SkipJsonSchema

from corral.agents.kit import Kit, Report
from corral.agents.patterns.prompts import LONGEST, framed

AnswerT = TypeVar("AnswerT", bound=BaseModel)


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


def bounded(
    answer: type[AnswerT], item: type[Task], most: int, workers: Sequence[str]
) -> type[AnswerT]:
    """An answer with ``tasks``, of which its schema wants no more, each for one of the workers.

    A model that a schema holds can give nothing else; of another that gives more, or other
    workers, the answer is valid, and the caller takes what it can use.
    """
    who = Field(default="", description="Who does it.", json_schema_extra={"enum": [*workers]})
    worker: Any = (str, who) if workers else (SkipJsonSchema[str], "")
    kind: Any = cast("Any", create_model)(item.__name__, __base__=item, worker=worker)
    default: Any = ... if answer.model_fields["tasks"].is_required() else []
    tasks = (list[kind], Field(default, json_schema_extra={"maxItems": most}))
    model: Any = cast("Any", create_model)(answer.__name__, __base__=answer, tasks=tasks)
    return cast("type[AnswerT]", model)


def who_can(kit: Kit, workers: Sequence[str]) -> str:
    """The workers and what they are for, as lines of a prompt; empty where there are none."""
    lines = [f"- {one.name}: {one.description}" for one in kit.team if one.name in workers]
    lines.append(f"- {kit.agent.name}: everything else")
    return "Workers:\n" + "\n".join(lines) if workers else ""


def done(task: Assigned, report: Report) -> Done:
    """A task with the report of it."""
    return Done(**task, is_error=report.is_error, message=report.message)


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
