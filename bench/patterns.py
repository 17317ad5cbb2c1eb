"""How often each pattern is right, against plain react at its own cost and at the same tokens.

The model is simulated: it is right with known probabilities, in an answer, a judgement, a step, and
independently each time (`bench/_patterns_model.py`). So theory says how often a pattern must be
right, and the interval (Wilson, 95 %) whether the runtime does what theory says. The last columns
are what the same tokens buy without a pattern: so many answers of react, and their majority. All
other runs are real ones, with journal, policy and limits.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import corral
from bench import _patterns_theory as theory
from bench._patterns_model import PROPOSALS, Noisy, Rates
from bench._patterns_tasks import Task, games, problems
from corral.agents.patterns.answers import comparable, majority
from corral.jsontypes import JsonObject

RATES = Rates()
SAMPLES = 5
ROUNDS = 3
CHECK = "functions__check"


@dataclass(frozen=True)
class Side:
    """A pattern with its options, and what theory says of it, if it says anything."""

    name: str
    pattern: str
    options: JsonObject = field(default_factory=dict)
    theory: float | None = None


@dataclass(frozen=True)
class Row:
    """How often a side was right, and the tokens that it used for a task."""

    side: Side
    hits: int
    of: int
    tokens: float

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share."""
        return theory.wilson(self.hits, self.of)

    @property
    def is_as_predicted(self) -> bool:
        """Whether what theory says lies in the interval."""
        low, high = self.interval
        return self.side.theory is None or low <= self.side.theory <= high


def _answer(text: str) -> str:
    """What of a try is counted as its vote: of a word problem the number, of a game all steps."""
    return text.rpartition("I get ")[2]


def sides_of_problems() -> list[Side]:
    """What is tried on word problems; react is the first."""
    p, votes = RATES.answer, 2 * SAMPLES - 1
    vote: JsonObject = {"samples": votes, "extract": "last_number"}
    tries: JsonObject = {"samples": SAMPLES}
    return [
        Side("react", "react", {}, p),
        Side(f"self_consistency, {votes}", "self_consistency", vote, theory.majority(p, votes)),
        Side(
            f"best_of_n, {SAMPLES}, judged",
            "best_of_n",
            tries,
            theory.first_accepted(p, RATES.judge, SAMPLES),
        ),
        Side(
            f"best_of_n, {SAMPLES}, verified",
            "best_of_n",
            {**tries, "verifier": CHECK},
            theory.any_of(p, SAMPLES),
        ),
        Side(
            f"reflection, {ROUNDS} rounds",
            "reflection",
            {"rounds": ROUNDS},
            theory.reflected(RATES, ROUNDS),
        ),
    ]


def sides_of_games() -> list[Side]:
    """What is tried on the Game of 24; react is the first."""
    search: JsonObject = {"depth": 3, "branches": PROPOSALS, "verifier": CHECK, "calls": 30}
    greedy: JsonObject = {**search, "breadth": 1}
    return [
        Side("react", "react", {}, theory.chain(RATES)),
        Side("tree_of_thoughts, beam 1", "tree_of_thoughts", greedy, theory.greedy_tree(RATES)),
        Side("tree_of_thoughts, beam 3", "tree_of_thoughts", {**search, "breadth": 3}),
        Side("tree_of_thoughts, dfs", "tree_of_thoughts", {**search, "search": "dfs"}),
        Side("mcts", "mcts", {**search, "calls": 60, "exploration": 0.3}),
    ]


class Trial:
    """The tasks, and the model that is asked."""

    def __init__(self, tasks: Sequence[Task], seed: int) -> None:
        self._tasks = {task.text: task for task in tasks}
        self._seed = seed

    def _model(self, side: str) -> Noisy:
        """A model with chances of its own, so that no two rows share their luck."""
        return Noisy(self._tasks, RATES, f"{self._seed}/{side}")

    async def measure(self, c: corral.Corral, side: Side) -> Row:
        """Let one side do all tasks."""
        agent = self._agent(side)
        hits = tokens = 0
        for task in self._tasks.values():
            result = await c.run(task.text, corral.RunOptions(agent=agent))
            assert result.status == "completed", result.error
            hits += task.is_right(result.output)
            tokens += result.usage.input_tokens + result.usage.output_tokens
        return Row(side, hits, len(self._tasks), tokens / len(self._tasks))

    def same_tokens(self, row: Row, react: Row) -> Row:
        """React as often as a row's tokens are enough for, and the majority of its answers.

        React makes one call of the model, so the model is asked past the runtime.
        """
        times = max(1, int(row.tokens / react.tokens))
        model, hits = self._model(f"as {row.side.name}"), 0
        for task in self._tasks.values():
            tries = model.tries(task, times)
            winner = majority([comparable(_answer(text)) for text in tries]) or 0
            hits += task.is_right(tries[winner])
        return Row(Side(f"x {times}", "react"), hits, row.of, times * react.tokens)

    def _agent(self, side: Side) -> corral.Agent:
        tasks = self._tasks

        @corral.tool(read_only=True)
        def check(answer: str, task: str) -> bool:
            """Whether an answer is right."""
            return tasks[task].is_right(answer)

        is_verified = "verifier" in side.options
        return corral.Agent(
            instructions="Solve the task.",
            pattern=side.pattern,
            options=side.options,
            functions=(check,) if is_verified else (),
            servers=(),
            facts=0,
            chat_model=self._model(side.name),
            limits=corral.RunLimits(max_steps=500),
        )


async def compare(c: corral.Corral, trial: Trial, sides: Sequence[Side]) -> list[Row]:
    """Measure and print all sides."""
    print(f"{'':27}{'right':>7}  95 % interval    theory  tokens   react, same tokens")
    rows: list[Row] = []
    for side in sides:
        row = await trial.measure(c, side)
        rows.append(row)
        print(_line(row, trial.same_tokens(row, rows[0])), flush=True)
    return rows


def _line(row: Row, against: Row) -> str:
    said = "-" if row.side.theory is None else f"{row.side.theory:.3f}"
    mark = " " if row.is_as_predicted else "!"
    text = f"{row.side.name:27}{_share(row)}  {said:>6}{mark}{row.tokens:>8.0f}"
    return f"{text}   {_share(against)} {against.side.name}"


def _share(row: Row) -> str:
    low, high = row.interval
    return f"{row.hits / row.of:>7.3f}  [{low:.3f}, {high:.3f}]"


async def run(tasks: int, seed: int) -> list[Row]:
    """Both sets of tasks, in a home of their own."""
    with tempfile.TemporaryDirectory(prefix="corral-patterns-") as folder:
        given = {"home": Path(folder) / "home", "workspace": folder}
        async with corral.open(corral.load_settings(given)) as c:
            print(f"{tasks} word problems")
            rows = await compare(c, Trial(problems(tasks, seed), seed), sides_of_problems())
            print(f"\n{tasks} Games of 24")
            return rows + await compare(c, Trial(games(tasks, seed), seed), sides_of_games())


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=100, help="tasks of each kind")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    began = time.monotonic()
    rows = asyncio.run(run(arguments.tasks, arguments.seed))
    missed = [row.side.name for row in rows if not row.is_as_predicted]
    print(f"\noutside of the interval: {', '.join(missed) or 'none'}")
    print(f"{time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
