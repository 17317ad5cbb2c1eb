"""A tree of thoughts: what may come next, how good that looks, and the answer at its end.

What ``tree_of_thoughts`` and ``mcts`` share. Each node of the tree is a step; the path to it is a
partial solution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, TypedDict, TypeVar, cast

from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from pydantic import BaseModel, Field, create_model

from corral.agents.kit import Kit
from corral.agents.patterns.prompts import framed, prompt, task_of
from corral.agents.patterns.roles import Role
from corral.agents.patterns.sampling import SamplingOptions, apart, varied
from corral.agents.patterns.verifying import Score, Verifier, VerifierOptions
from corral.errors import InvalidAnswer
from corral.runtime.models.structured import RETRIES, Shape

T = TypeVar("T")

_PROPOSE = (
    "Give up to {count} different next steps towards solving the request, each one short step that "
    "goes on from the steps so far. A step is done if it completes the solution, and says the "
    "answer. Give none where the steps so far lead nowhere."
)
_VALUE = (
    "How likely is it that these steps can lead to a right solution of the request? "
    "Do not solve the request."
)
_ANSWER = "Answer the request. Follow these steps, which were found to be the best."
_PASSED = 0.5  # what a verifier gives at least for a solution

UNREADABLE = 0.5
"""The value of a thought of which the model says nothing that can be read: it may be either."""


class SearchOptions(SamplingOptions, VerifierOptions):
    """What all searches have in common."""

    branches: int = Field(default=3, ge=1, le=16, description="Next steps of one thought at most.")
    depth: int = Field(default=4, ge=1, le=32, description="Steps of a solution at most.")
    calls: int = Field(
        default=40,
        ge=1,
        le=2000,
        description="Model calls at most, the answer and those that ask again included; a task of "
        "the critic counts as one.",
    )


class Thought(TypedDict):
    """One step: its place in the tree is its id, and ``parent`` is -1 for a first one.

    ``done``: it completes a solution; ``solved``: the verifier says so too.
    """

    parent: int
    text: str
    depth: int
    value: float
    done: bool
    solved: bool


class Proposed(TypedDict):
    """Steps that were proposed after the thought ``parent``, and what they took."""

    parent: int
    steps: list[tuple[str, bool]]
    calls: int


class Valued(TypedDict):
    """A thought with its value, and the model calls that this took."""

    thought: Thought
    calls: int


class Step(BaseModel):
    """A next step."""

    text: str = Field(min_length=1, description="The step.")
    done: bool = Field(default=False, description="Whether it completes the solution.")


class Task(TypedDict):
    """The input of a branch: the path it is about, and how often it may ask the model."""

    messages: list[AnyMessage]
    thought: Thought | None
    parent: int
    path: list[str]
    calls: int


@dataclass(frozen=True)
class Thinking:
    """What a search asks. Every answer says how many model calls it took."""

    kit: Kit
    options: SearchOptions

    async def propose(self, task: Task) -> Proposed:
        """The steps that may come after a path."""
        instruction = _PROPOSE.format(count=self.options.branches)
        asked = [*task["messages"], _about(task, instruction)]
        kit = varied(self.kit, 0, self.options.temperature)
        given, calls = await _decided(kit, asked, _steps(self.options.branches), task["calls"])
        steps = cast("Any", given).steps if given else []
        found = {" ".join(step.text.split()): bool(step.done) for step in steps}
        return Proposed(parent=task["parent"], steps=list(found.items()), calls=calls)

    async def value(self, task: Task) -> Valued:
        """How good the last step of a path is."""
        thought = task["thought"]
        assert thought is not None
        if thought["done"] and self.options.verifier:
            verifier = Verifier(self.kit, self.options.verifier)
            request = task_of(task["messages"])
            score = await apart(lambda: verifier.score(request, thought["text"]))
            checked = Thought({**thought, "value": score, "solved": score >= _PASSED})
            return Valued(thought=checked, calls=0)
        score, calls = await self._judged(task)
        return Valued(thought=Thought({**thought, "value": score}), calls=calls)

    async def answer(self, messages: Sequence[BaseMessage], path: list[str]) -> AIMessage:
        """The answer to the request, along the best path."""
        asked = prompt(_ANSWER, framed("steps", _numbered(path)), of=messages) if path else None
        return await self.kit.ask([*messages, *([asked] if asked else [])], tools=False)

    async def _judged(self, task: Task) -> tuple[float, int]:
        if self.options.critic:
            critic = Role(self.kit, self.options.critic)
            asked = _about(task, _VALUE)
            given = await apart(lambda: critic.decide(task["messages"], asked, Score))
            return (given.score if given else UNREADABLE), 1
        messages = [*task["messages"], _about(task, _VALUE)]
        found, calls = await _decided(self.kit, messages, Score, task["calls"])
        return (found.score if found else UNREADABLE), calls


def path_to(tree: Sequence[Thought], index: int) -> list[str]:
    """The steps from the beginning to a thought."""
    path: list[str] = []
    while index >= 0:
        path.append(tree[index]["text"])
        index = tree[index]["parent"]
    return path[::-1]


def task_about(
    messages: list[AnyMessage],
    tree: Sequence[Thought],
    parent: int,
    *,
    thought: Thought | None = None,
    calls: int,
) -> Task:
    """The input of a branch about the path to ``parent``, and a new thought after it."""
    path = [*path_to(tree, parent), *([thought["text"]] if thought else [])]
    return Task(messages=messages, thought=thought, parent=parent, path=path, calls=calls)


def new_thoughts(
    tree: Sequence[Thought], proposed: Sequence[Proposed], depth: int
) -> list[Thought]:
    """The thoughts of what was proposed, without solutions that are there already.

    At ``depth`` steps a solution must be complete.
    """
    solutions = {thought["text"] for thought in tree if thought["done"]}
    found = []
    for proposal in proposed:
        parent = proposal["parent"]
        deep = tree[parent]["depth"] + 1 if parent >= 0 else 1
        for text, says_done in proposal["steps"]:
            done = says_done or deep >= depth
            if not done or text not in solutions:
                found.append(_thought(parent, text, deep, done=done))
            if done:
                solutions.add(text)
    return found


def _thought(parent: int, text: str, depth: int, *, done: bool) -> Thought:
    return Thought(parent=parent, text=text, depth=depth, value=0.0, done=done, solved=False)


def shared_out(calls: int, among: int) -> int:
    """The calls that each of so many branches may make, asking again included."""
    return min(RETRIES + 1, max(1, calls // max(1, among)))


def best_of(tree: Sequence[Thought]) -> int:
    """The best thought: a solution that is not refused, the more valued, the deeper, the earlier.

    -1 for an empty tree.
    """

    def rank(index: int) -> tuple[bool, bool, float, int]:
        one = tree[index]
        return one["solved"], one["done"] and one["value"] > 0, one["value"], one["depth"]

    return max(range(len(tree)), key=rank, default=-1)


async def _decided(
    kit: Kit, messages: Sequence[BaseMessage], returns: type[T], calls: int
) -> tuple[T | None, int]:
    """A decision that takes at most so many model calls, and how many it took."""
    shape: Shape[T] = Shape.of(returns)
    try:
        given = await kit.extract(messages, shape, retries=calls - 1, purpose="decision")
    except InvalidAnswer:
        return None, calls
    return given.value, given.tries


@lru_cache(maxsize=16)
def _steps(most: int) -> type[BaseModel]:
    return create_model("Steps", steps=(Annotated[list[Step], Field(max_length=most)], ...))


def _about(task: Task, instruction: str) -> HumanMessage:
    steps = framed("steps", _numbered(task["path"]) or "(none yet)")
    return prompt(instruction, steps, of=task["messages"])


def _numbered(path: Sequence[str]) -> str:
    return "\n".join(f"{number}. {text}" for number, text in enumerate(path, 1))
