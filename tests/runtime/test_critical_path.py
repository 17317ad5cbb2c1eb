"""What determined a run's wall time: computed from journals, made up and real."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

import corral
from corral.runtime.config import Settings
from corral.runtime.critical_path import CriticalPath, critical_path
from corral.runtime.outline import outline
from corral.runtime.views import EffectView
from tests.runtime.agents import scripted, turn

START = datetime(2026, 1, 1, tzinfo=UTC)


def at(ms: float) -> str:
    return (START + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")


@dataclass
class Made:
    """A journal that is written by hand: times are milliseconds since the run began."""

    effects: list[EffectView] = field(default_factory=list)

    def add(
        self, kind: str, path: str, begin: float, end: float | None, status: str = "finished"
    ) -> int:
        seq = len(self.effects) + 1
        lasted = None if end is None else end - begin
        self.effects.append(
            EffectView(
                seq, kind, kind, status, {}, {}, at(begin), lasted, 0, 0, 0.0, path, run="r-1"
            )
        )
        return seq

    def critical(self, *, until: float | None = None) -> CriticalPath:
        path = critical_path(self.effects, since=at(0), until=None if until is None else at(until))
        check(path)
        return path


def check(path: CriticalPath) -> None:
    """The segments cover the wall time without a gap, and the sums are theirs."""
    cursor = 0.0
    for segment in path.segments:
        assert segment.begin_ms == pytest.approx(cursor, abs=0.01)
        assert segment.ms > 0
        cursor += segment.ms
    assert cursor == pytest.approx(path.wall_ms, abs=0.1)
    parts = path.model_ms + path.tool_ms + path.human_ms + path.other_ms + path.unrecorded_ms
    assert parts == pytest.approx(path.wall_ms, abs=0.1)
    assert {s.seq for s in path.segments} - {None} <= set(path.seqs)


def test_of_parallel_calls_the_slowest_counts() -> None:
    made = Made()
    made.add("prepare", "prepare", 0, 30)
    model = made.add("model", "1.model#0", 30, 1030)
    made.add("tool", "2.tools[0]#0", 1035, 1100)
    slow = made.add("tool", "2.tools[1]#0", 1035, 3035)
    made.add("tool", "2.tools[2]#0", 1035, 3000)
    last = made.add("model", "3.model#0", 3040, 3540)
    path = made.critical()
    assert path.seqs == (1, model, slow, last)
    assert path.wall_ms == 3540
    assert (path.model_ms, path.tool_ms, path.other_ms) == (1500, 2000, 30)
    assert path.unrecorded_ms == 10
    assert path.human_ms == 0


def test_a_branch_of_several_effects_is_followed_by_its_own() -> None:
    """Not the effect that happened to end last before, but the one in the same task."""
    made = Made()
    first = made.add("value", "1.a#0", 0, 500)
    second = made.add("value", "1.a#1", 500, 1500)
    made.add("value", "1.b#0", 0, 499)
    assert made.critical().seqs == (first, second)


def test_effects_of_one_task_that_ran_at_the_same_time() -> None:
    made = Made()
    before = made.add("model", "1.plan#0", 0, 100)
    made.add("tool", "2.fetch#0", 100, 300)
    slow = made.add("tool", "2.fetch#1", 100, 900)
    assert made.critical().seqs == (before, slow)


def test_the_wait_for_a_human_is_part_of_it() -> None:
    made = Made()
    model = made.add("model", "1.model#0", 0, 1000)
    question = made.add("approval", "2.tools[0]#0/approval", 1000, 61_000)
    call = made.add("tool", "2.tools[0]#0", 63_000, 63_500)
    path = made.critical()
    assert path.seqs == (model, question, call)
    assert path.human_ms == 60_000
    assert path.unrecorded_ms == 2000, "nobody had resumed it"


def test_two_questions_and_the_later_answer() -> None:
    """A run goes on when all are answered: the first one's answer did not bring it on."""
    made = Made()
    model = made.add("model", "1.model#0", 0, 1000)
    made.add("approval", "2.tools[0]#0/approval", 1000, 2000)
    late = made.add("approval", "2.tools[1]#0/approval", 1000, 61_000)
    call = made.add("tool", "2.tools[0]#0", 61_010, 65_000)
    made.add("tool", "2.tools[1]#0", 61_010, 61_200)
    path = made.critical()
    assert path.seqs == (model, late, call)
    assert path.human_ms == 60_000


def test_a_question_that_is_still_open_lasts_until_now() -> None:
    made = Made()
    model = made.add("model", "1.model#0", 0, 1000)
    question = made.add("approval", "2.tools[0]#0/approval", 1000, None, "waiting")
    made.add("tool", "2.tools[1]#0", 1000, 1500)
    path = made.critical(until=10_000)
    assert path.seqs == (model, question)
    assert path.human_ms == 9000


def test_an_answer_without_its_time_lasted_until_the_call() -> None:
    made = Made()
    made.add("approval", "2.tools[0]#0/approval", 0, None)
    made.add("tool", "2.tools[0]#0", 5000, 5100)
    assert made.critical().human_ms == 5000


def test_a_call_in_doubt_was_made_again_after_the_question() -> None:
    made = Made()
    call = made.add("tool", "2.tools[0]#0", 9000, 9500)
    question = made.add("approval", "2.tools[0]#0/in_doubt/1", 1000, 8990)
    path = made.critical()
    assert path.seqs == (question, call)
    assert (path.human_ms, path.tool_ms) == (7990, 500)


def test_sub_agents_are_gone_into() -> None:
    made = Made()
    plan = made.add("model", "1.model#0", 0, 100)
    quick = made.add("agent", "2.tools[0]#0", 100, 1000)
    slow = made.add("agent", "2.tools[1]#0", 100, 2000)
    made.add("prepare", "2.tools[0]#0/prepare", 101, 102)
    made.add("model", "2.tools[0]#0/1.model#0", 102, 990)
    prepared = made.add("prepare", "2.tools[1]#0/prepare", 101, 103)
    asked = made.add("model", "2.tools[1]#0/1.model#0", 103, 900)
    made.add("tool", "2.tools[1]#0/2.tools[0]#0", 900, 1000)
    tool = made.add("tool", "2.tools[1]#0/2.tools[1]#0", 900, 1500)
    told = made.add("model", "2.tools[1]#0/3.model#0", 1500, 1999)
    end = made.add("model", "3.model#0", 2000, 2500)
    path = made.critical()
    assert set(path.seqs) == {plan, slow, prepared, asked, tool, told, end}
    assert quick not in path.seqs
    assert path.wall_ms == 2500
    assert path.unrecorded_ms < 5, "the sub-agent's own time is that of what is inside of it"


def test_a_sub_agent_that_waited_for_a_human() -> None:
    """Its row tells of its last execution alone; what is inside of it began long before."""
    made = Made()
    plan = made.add("model", "1.model#0", 0, 100)
    agent = made.add("agent", "2.tools[0]#0", 50_000, 51_000)
    asked = made.add("model", "2.tools[0]#0/1.model#0", 110, 900)
    question = made.add("approval", "2.tools[0]#0/2.tools[0]#0/approval", 900, 49_000)
    tool = made.add("tool", "2.tools[0]#0/2.tools[0]#0", 50_100, 50_900)
    path = made.critical()
    assert set(path.seqs) == {plan, agent, asked, question, tool}
    assert path.human_ms == 48_100


def test_a_task_that_had_to_wait_for_its_turn() -> None:
    """Only so many tasks run at once: the one whose end made room is on the path."""
    made = Made()
    made.add("model", "1.model#0", 0, 100)
    for branch in range(8):
        made.add("tool", f"2.tools[{branch}]#0", 100, 1000 if branch == 3 else 4000)
    late = made.add("tool", "2.tools[8]#0", 1002, 5000)
    path = made.critical()
    assert path.seqs == (1, 5, late)
    assert path.unrecorded_ms == 2


def test_a_fork_has_what_it_made_itself() -> None:
    made = Made()
    for step in range(1, 4):
        made.add("model", f"{step}.model#0", step * 1000, step * 1000 + 900)
    own = [
        replace(effect, run="r-2", started_at=at(3_600_000 + effect.seq * 1000))
        for effect in made.effects[1:]
    ]
    path = critical_path(own)
    assert path.seqs == (2, 3)
    assert path.wall_ms == 1900


def test_a_fork_inside_of_a_sub_agent() -> None:
    """The sub-agent's own row may be its parent's."""
    made = Made()
    made.add("model", "2.tools[0]#0/3.model#0", 0, 100)
    made.add("model", "3.model#0", 100, 300)
    assert made.critical().seqs == (1, 2)


def test_an_empty_journal() -> None:
    assert critical_path([]) == CriticalPath()
    path = critical_path([], since=at(0), until=at(500))
    assert (path.wall_ms, path.unrecorded_ms, path.seqs) == (500, 500, ())


@pytest.mark.parametrize(
    "change",
    [
        {"started_at": "yesterday"},
        {"started_at": None},
        {"duration_ms": "long"},
        {"duration_ms": float("nan")},
        {"duration_ms": -5.0},
        {"path": ""},
        {"path": "///#"},
        {"path": "9" * 400 + ".model#0"},
        {"path": "1.model#0/" * 3000 + "1.model#0"},
        {"kind": "sorcery"},
    ],
)
def test_a_damaged_row_does_not_hide_the_rest(change: dict[str, object]) -> None:
    made = Made()
    made.add("model", "1.model#0", 0, 1000)
    made.add("tool", "2.tools[0]#0", 1000, 1500)
    made.add("model", "3.model#0", 1500, 2500)
    made.effects[1] = replace(made.effects[1], **change)  # type: ignore[arg-type]  # a damaged row holds anything
    path = made.critical()
    assert path.model_ms >= 1900
    assert 3 in path.seqs


def test_any_journal_gives_a_path() -> None:
    """Clocks that were set back, rows that contradict each other: never a loop, never an error."""
    rng = random.Random(3)
    for _ in range(300):
        made = Made()
        for _ in range(rng.randrange(1, 25)):
            depth = rng.choice([0, 0, 0, 1, 2])
            parts = [
                f"{rng.randrange(4)}.n{rng.randrange(2)}[{rng.randrange(2)}]#{rng.randrange(2)}"
                for _ in range(depth + 1)
            ]
            path = "/".join(parts)
            kind = rng.choice(["model", "tool", "prepare", "approval", "agent"])
            if kind == "approval":
                path += rng.choice(["/approval", "/in_doubt/1"])
            if kind == "prepare":
                path = "/".join([*parts[:-1], "prepare"])
            if any(effect.path == path for effect in made.effects):
                continue
            begin = rng.randrange(0, 50) * rng.choice([1, 10])
            end = rng.choice([None, begin, begin + rng.randrange(60)])
            made.add(kind, path, begin, end, "started" if end is None else "finished")
        made.critical()
        made.critical(until=100)
        nodes = [n for n in outline(made.effects).walk() if n.effect is not None]
        assert len(nodes) == len(made.effects), "every effect has its place"


def test_ten_thousand_effects_take_no_time() -> None:
    made = Made()
    for step in range(1, 2001):
        made.add("model", f"{2 * step}.model#0", step * 10, step * 10 + 5)
        for branch in range(4):
            made.add("tool", f"{2 * step + 1}.tools[{branch}]#0", step * 10 + 5, step * 10 + 9)
    began = time.process_time()
    path = made.critical()
    assert time.process_time() - began < 3
    assert len(path.seqs) == 4000


async def test_a_real_run(settings: Settings) -> None:
    """Parallel tools, of which one is slow, and a question."""
    gate = asyncio.Event()

    @corral.tool(read_only=True)
    async def slow() -> str:
        """Slow."""
        await gate.wait()
        await asyncio.sleep(0.06)
        return "slow"

    @corral.tool(read_only=True)
    def quick() -> str:
        """Quick."""
        gate.set()
        return "quick"

    def pay() -> str:
        """Pay."""
        return "paid"

    agent = scripted(
        [turn("Both.", slow={}, quick={}), turn("Now pay.", pay={}), turn("Done.")],
        slow,
        quick,
        pay,
    )
    async with corral.open(settings) as c:
        paused = await c.run("Go.", corral.RunOptions(agent=agent))
        assert paused.status == "paused"
        (question,) = paused.approvals
        waiting = await c.records.trace(paused.run)
        assert critical_path(waiting).seqs[-1] == waiting[-1].seq, "it waits"
        await c.approve(question.id)
        done = await c.resume(paused.run, corral.RunOptions(agent=agent))
        assert done.status == "completed"
        view = await c.records.run(done.run)
        effects = await c.records.trace(done.run)
    path = critical_path(effects, since=view.started_at, until=view.finished_at)
    check(path)
    named = [(e.kind, e.name) for e in effects if e.seq in path.seqs]
    assert ("tool", "functions__slow") in named
    assert ("tool", "functions__quick") not in named
    assert ("approval", "functions__pay") in named
    assert path.tool_ms >= 50
    assert path.human_ms > 0
