"""A model that is right with known probabilities, each answer independently of all others.

What it says follows from a seed and the request alone. It knows the right answer of every task, and
gives it, or a wrong one; what it is asked it sees from the type that its answer is to have.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from langchain_core.messages import AIMessage

from bench._patterns_tasks import (
    Game,
    Numbers,
    Problem,
    Task,
    can_make_24,
    left_after,
    moves,
    steps_in,
)
from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest, TextChunk, Usage

PROPOSALS = 5
"""Next steps that it proposes, whatever it was asked for."""

_TAGGED = re.compile(r"<(draft|answer|steps)>\n(.*?)\n</\1>", re.DOTALL)


@dataclass(frozen=True)
class Rates:
    """How often it is right: in an answer, in a judgement, when it mends a wrong draft, when it
    writes a right one again, and in one step of a game.
    """

    answer: float = 0.65
    judge: float = 0.85
    mend: float = 0.5
    keep: float = 0.95
    step: float = 0.35


class Noisy:
    """The model."""

    name = "noisy"
    context_window = 128_000

    def __init__(self, tasks: Mapping[str, Task], rates: Rates, seed: str) -> None:
        self._tasks = tasks
        self._rates = rates
        self._seed = seed

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Answer what is asked; a word of five characters is a token."""
        texts = [str(message.text) for message in request.messages]
        text = self._answer(request, texts)
        yield TextChunk(text)
        usage = Usage(sum(map(len, texts)) // 5, len(text) // 5)
        yield FinalChunk(AIMessage(text), usage, stop_reason="stop")

    def check_complete(self, turns: int) -> None:
        """It can always be asked once more."""

    async def aclose(self) -> None:
        """Nothing to free."""

    def tries(self, task: Task, count: int, again: int = 0) -> list[str]:
        """So many answers to a task, each as react's one call of the model would give it.

        With another ``again`` they are others.
        """
        return [
            self._solved(task, {}, self._chance(f"try {again}.{number}", [task.text]))
            for number in range(count)
        ]

    def _chance(self, number: object, texts: Sequence[str]) -> random.Random:
        identity = "\n".join((f"{self._seed}/{number}", *texts))
        return random.Random(hashlib.sha256(identity.encode()).digest())

    def _answer(self, request: ModelRequest, texts: list[str]) -> str:
        task = next(self._tasks[text] for text in texts if text in self._tasks)
        chance = self._chance(request.sampling.seed, texts)
        tagged = dict(_TAGGED.findall(texts[-1]))
        match getattr(request.output, "name", ""):
            case "Critique":
                right = self._judged(task, tagged["draft"], chance)
                return json.dumps({"score": 1.0 if right else 0.2, "points": ["Look again."]})
            case "Score":
                right = self._judged(task, tagged.get("answer") or tagged["steps"], chance)
                return json.dumps({"score": 0.9 if right else 0.1})
            case "Steps":
                assert isinstance(task, Game)
                return json.dumps({"steps": self._steps(task, tagged["steps"], chance)})
            case _:
                return self._solved(task, tagged, chance)

    def _judged(self, task: Task, text: str, chance: random.Random) -> bool:
        truth = _is_right(task, text)
        return truth if chance.random() < self._rates.judge else not truth

    def _solved(self, task: Task, tagged: Mapping[str, str], chance: random.Random) -> str:
        if isinstance(task, Game):
            found = tagged.get("steps", "").splitlines()
            return "; ".join(steps_in(found[-1])) if found else self._played(task, chance)
        rate = self._rates.answer
        if "draft" in tagged:
            rate = self._rates.keep if task.is_right(tagged["draft"]) else self._rates.mend
        # The wrong answer is always the same: the worst case for a majority.
        said = task.answer if chance.random() < rate else task.answer + 10
        return f"By way {chance.getrandbits(64):x} I get {said}"

    def _played(self, game: Game, chance: random.Random) -> str:
        steps: list[str] = []
        for _ in range(len(game.numbers) - 1):
            steps.append(self._move(game, steps, chance))
        return "; ".join(steps)

    def _steps(self, game: Game, before: str, chance: random.Random) -> list[dict[str, object]]:
        steps = steps_in(before)
        proposed = []
        for _ in range(PROPOSALS):
            move = self._move(game, steps, chance)
            done = len(steps) == len(game.numbers) - 2
            text = "; ".join([*steps, move]) if done else move
            # A remark of its own, so that equal steps are thoughts of their own, as theory has it.
            proposed.append({"text": f"{text} (idea {chance.getrandbits(32):x})", "done": done})
        return proposed

    def _move(self, game: Game, steps: list[str], chance: random.Random) -> str:
        left = left_after(game.numbers, steps)
        if left is None:
            return "1 + 1 = 3"
        good, bad = _moves(left)
        if good and chance.random() < self._rates.step:
            return chance.choice(good)
        # Where nothing is a bad move, a wrong step is a slip.
        return chance.choice(bad) if bad else f"{left[0]} + {left[1]} = {left[0] + left[1] + 1}"


def _is_right(task: Task, text: str) -> bool:
    """Whether an answer is right, or steps of a game may still lead to 24."""
    if isinstance(task, Problem):
        return task.is_right(text)
    left = left_after(task.numbers, steps_in(text))
    return left is not None and can_make_24(tuple(sorted(left)))


@lru_cache(maxsize=100_000)
def _moves(left: Numbers) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The moves after which 24 can still be made, and the others."""
    can = [(move.text, can_make_24(tuple(sorted(move.left)))) for move in moves(left)]
    return tuple(text for text, good in can if good), tuple(text for text, good in can if not good)
