"""Rewinding a thread: conversation, files, memories and questions together, and back again."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import corral
from corral.errors import ConflictError, NotFoundError, UsageError
from corral.memory.store import Source
from corral.runtime.models.contract import Chunk, ModelRequest
from corral.runtime.views import RunResult
from tests import forked
from tests.runtime.agents import scripted, turn
from tests.runtime.rewind_child import POINTS, child, prepare
from tests.runtime.workshop import doing, listing, run, settings


@pytest.fixture
async def c(own_home: Path, workspace: Path) -> AsyncIterator[corral.Corral]:
    async with corral.open(settings(own_home, workspace)) as opened:
        yield opened


def saying(text: str) -> corral.Agent:
    return scripted([turn(text)])


def remembering(fact: str) -> corral.Agent:
    call = {"name": "memory__remember", "args": {"fact": fact}}
    model = corral.ScriptedModel([{"tool_calls": [call]}, {"text": "noted"}])
    return corral.Agent(servers=("memory",), chat_model=model, facts=0)


async def three(c: corral.Corral, workspace: Path) -> list[RunResult]:
    """Three runs of one thread; the n-th writes n into n.txt and into log.txt."""
    results: list[RunResult] = []
    for number in (1, 2, 3):

        def write(number: int = number) -> None:
            (workspace / f"{number}.txt").write_text(str(number))
            (workspace / "log.txt").write_text(f"up to {number}")

        thread = results[0].thread if results else None
        results.append(await run(c, doing(write), f"prompt {number}", thread))
    return results


class Listening(corral.ScriptedModel):
    """A model that says ``ok`` and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__([turn("ok")])
        self.heard: list[str] = []

    async def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        self.heard = [str(m.text) for m in request.messages if m.type == "human"]
        async for chunk in super().stream(request):
            yield chunk


async def prompts_seen(c: corral.Corral, thread: str, prompt: str = "What was said?") -> list[str]:
    """What the users' messages are that the model is sent by a new run of the thread."""
    model = Listening()
    agent = corral.Agent(servers=(), chat_model=model, facts=0)
    await run(c, agent, prompt, thread)
    return model.heard


async def replays(c: corral.Corral) -> None:
    for view in await c.records.runs():
        report = await c.replay(view.run)
        assert report.status == "identical", report.divergence


async def test_conversation_and_files_go_back_together(c: corral.Corral, workspace: Path) -> None:
    first, second, third = await three(c, workspace)
    report = await c.rewind(first.thread, 1)
    assert [turn.run for turn in report.runs] == [second.run, third.run]
    assert report.to == 1
    assert {path.name for path in workspace.iterdir()} == {"1.txt", "log.txt"}
    assert (workspace / "log.txt").read_text() == "up to 1"
    assert await prompts_seen(c, first.thread) == ["prompt 1", "What was said?"]
    marks = {view.run: view.rewound for view in await c.records.runs()}
    assert marks.pop(second.run)
    assert marks.pop(third.run)
    assert set(marks.values()) == {False}
    await replays(c)


async def test_the_beginning_is_empty(c: corral.Corral, workspace: Path) -> None:
    first, *_ = await three(c, workspace)
    await c.rewind(first.thread, 0)
    assert listing(workspace) == {}
    assert await prompts_seen(c, first.thread) == ["What was said?"]
    await replays(c)


async def test_a_run_can_be_named_instead_of_counted(c: corral.Corral, workspace: Path) -> None:
    first, second, third = await three(c, workspace)
    report = await c.rewind(first.thread[:5], second.run[:6])
    assert [turn.run for turn in report.runs] == [third.run]
    assert (workspace / "log.txt").read_text() == "up to 2"


async def test_undoing_brings_everything_forward(c: corral.Corral, workspace: Path) -> None:
    first, second, third = await three(c, workspace)
    after = listing(workspace)
    await c.rewind(first.thread, 1)
    planned = await c.undo_rewind(first.thread, dry_run=True)
    report = await c.undo_rewind(first.thread)
    assert planned.files == report.files
    assert [turn.run for turn in report.runs] == [second.run, third.run]
    assert report.to == 3
    assert listing(workspace) == after
    assert not any(view.rewound for view in await c.records.runs())
    assert await prompts_seen(c, first.thread) == [
        "prompt 1",
        "prompt 2",
        "prompt 3",
        "What was said?",
    ]
    await replays(c)


async def test_what_the_user_did_since_survives_undoing(c: corral.Corral, workspace: Path) -> None:
    first, *_ = await three(c, workspace)
    await c.rewind(first.thread, 1)
    (workspace / "mine.txt").write_text("mine")
    (workspace / "log.txt").write_text("mine too")
    report = await c.undo_rewind(first.thread)
    assert (workspace / "mine.txt").read_text() == "mine"
    assert (workspace / "log.txt").read_text() == "mine too"
    assert (workspace / "3.txt").read_text() == "3"
    assert [left.path for left in report.failed] == ["log.txt"]


async def test_rewinds_are_undone_one_after_another(c: corral.Corral, workspace: Path) -> None:
    first, *_ = await three(c, workspace)
    states = {3: listing(workspace)}
    for to in (2, 1, 0):
        await c.rewind(first.thread, to)
        states[to] = listing(workspace)
    for to in (1, 2, 3):
        report = await c.undo_rewind(first.thread)
        assert report.to == to
        assert listing(workspace) == states[to]
    with pytest.raises(ConflictError, match="no rewind that could be undone"):
        await c.undo_rewind(first.thread)
    assert len(await prompts_seen(c, first.thread)) == 4


async def test_a_thread_that_has_gone_on_cannot_be_undone(
    c: corral.Corral, workspace: Path
) -> None:
    first, *_ = await three(c, workspace)
    await c.rewind(first.thread, 1)
    newer = await run(c, doing(lambda: (workspace / "4.txt").write_text("4")), "4", first.thread)
    before = listing(workspace)
    with pytest.raises(ConflictError, match=f"gone on with the run {newer.run}"):
        await c.undo_rewind(first.thread)
    assert listing(workspace) == before
    # Rewinding again takes the new run back and leaves the old ones where they are.
    report = await c.rewind(first.thread, 1)
    assert [turn.run for turn in report.runs] == [newer.run]
    assert await prompts_seen(c, first.thread) == ["prompt 1", "What was said?"]
    await replays(c)


async def test_memories_go_back_and_come_forward(c: corral.Corral) -> None:
    await c.memory.remember("Ada lives in Ulm.", Source("assistant"), "by hand")
    first = await run(c, saying("hello"))
    for fact in ("Ada likes tea.", "ada lives  in ulm."):
        agent = remembering(fact)
        options = corral.RunOptions(agent=agent, thread=first.thread, policy="workspace")
        result = await c.run("Remember.", options)
        for approval in result.approvals:
            await c.approve(approval.id)
        assert (await c.resume(result.run, options)).status == "completed"
    told = await c.memory.all()
    assert {memory.text for memory in told} == {"Ada likes tea.", "Ada lives in Ulm."}
    assert {memory.thread for memory in told} == {first.thread}

    planned = await c.rewind(first.thread, 1, dry_run=True)
    assert await c.memory.all() == told
    report = await c.rewind(first.thread, 1)
    assert planned.memories == report.memories
    (change,) = report.memories
    assert (change.text, change.change) == ("Ada likes tea.", "forgotten")
    (left,) = await c.memory.all()
    assert (left.text, left.thread) == ("Ada lives in Ulm.", "")

    report = await c.undo_rewind(first.thread)
    assert [change.change for change in report.memories] == ["remembered"]
    assert await c.memory.all() == told


async def test_a_fact_that_is_known_from_elsewhere_stays(c: corral.Corral) -> None:
    first, second = await run(c, saying("a")), await run(c, saying("b"))
    for result, key in ((first, "k1"), (second, "k2")):
        source = Source("assistant", result.thread, result.run)
        await c.memory.remember("Tea is hot.", source, key)
    await c.rewind(first.thread, 0)
    (fact,) = await c.memory.all()
    assert (fact.text, fact.run) == ("Tea is hot.", second.run)
    await c.rewind(second.thread, 0)
    assert await c.memory.all() == []
    await c.undo_rewind(first.thread)
    (fact,) = await c.memory.all()
    assert (fact.text, fact.run) == ("Tea is hot.", first.run)


async def test_what_a_run_forgot_is_remembered_again(c: corral.Corral) -> None:
    told = await c.memory.remember("Tea is hot.", Source("assistant"), "k")
    result = await run(c, saying("a"))
    await c.memory.forget(told.id, Source("assistant", result.thread, result.run))
    assert await c.memory.all() == []
    await c.rewind(result.thread, 0)
    assert await c.memory.all() == [told]
    await c.undo_rewind(result.thread)
    assert await c.memory.all() == []


async def test_what_the_user_forgets_is_gone_for_good(c: corral.Corral, own_home: Path) -> None:
    result = await run(c, saying("a"))
    source = Source("assistant", result.thread, result.run)
    seen, hidden = [
        await c.memory.remember(text, source, text) for text in ("zebra-one", "zebra-two")
    ]
    await c.memory.forget(seen.id)
    await c.rewind(result.thread, 0)
    await c.memory.forget(hidden.id[:8])  # though it is not remembered now, it could come back
    await c.undo_rewind(result.thread)
    assert await c.memory.all() == []
    with sqlite3.connect(own_home / "corral.db") as database:
        database.execute("pragma wal_checkpoint(truncate)")
    assert b"zebra" not in (own_home / "corral.db").read_bytes()


async def test_questions_are_withdrawn_and_come_back(
    c: corral.Corral, own_home: Path, workspace: Path
) -> None:
    first = await run(c, saying("hello"))
    call = [turn("", pay={"amount": 5}), turn("paid")]
    paid: list[int] = []

    def pay(amount: int) -> str:
        """Pay."""
        paid.append(amount)
        return "ok"

    asking = corral.load_settings({"home": own_home, "workspace": workspace})
    async with corral.open(asking) as careful:
        agent = scripted(call, pay)
        options = corral.RunOptions(agent=agent, thread=first.thread)
        waiting = await careful.run("Pay.", options)
        assert waiting.status == "paused"
        (question,) = waiting.approvals
        await careful.rewind(first.thread, 1)
        assert await careful.approvals() == []
        assert (await careful.records.approval(question.id)).status == "withdrawn"
        with pytest.raises(ConflictError, match="a rewind took back"):
            await careful.approve(question.id)
        with pytest.raises(ConflictError, match="taken back by a rewind"):
            await careful.resume(waiting.run, options)
        with pytest.raises(ConflictError, match="is rewound"):
            await careful.records.cancel(waiting.run)

        await careful.undo_rewind(first.thread)
        await careful.approve(question.id)
        assert (await careful.resume(waiting.run, options)).status == "completed"
        assert paid == [5]
        await replays(careful)


async def test_a_run_that_was_stopped_can_go_on_after_a_rewind_to_it(
    c: corral.Corral, own_home: Path, workspace: Path
) -> None:
    def note() -> str:
        """Note."""
        (workspace / "note.txt").write_text("noted")
        return "ok"

    agent = scripted([turn("", note={}), turn("", note={}), turn("all noted")], note)
    options = corral.RunOptions(agent=agent, limits=corral.RunLimits(max_steps=1))
    stopped = await c.run("Note twice.", options)
    assert stopped.status == "stopped"
    await run(c, saying("else"), "Something else.", stopped.thread)
    await c.rewind(stopped.thread, stopped.run)
    more = corral.RunOptions(agent=agent, limits=corral.RunLimits(max_steps=3))
    done = await c.resume(stopped.run, more)
    assert (done.status, done.output) == ("completed", "all noted")
    assert await prompts_seen(c, stopped.thread) == ["Note twice.", "What was said?"]
    await replays(c)


async def test_bad_points_are_refused(c: corral.Corral, workspace: Path) -> None:
    first, *_ = await three(c, workspace)
    before = listing(workspace)
    for to in ("4", "r-none", "", "-1"):
        with pytest.raises(UsageError, match="has no run"):
            await c.rewind(first.thread, to)
    with pytest.raises(UsageError, match="stands after run 3 already"):
        await c.rewind(first.thread, 3)
    with pytest.raises(NotFoundError, match="no thread"):
        await c.rewind("t-none", 0)
    with pytest.raises(ConflictError, match="no rewind"):
        await c.undo_rewind(first.thread)
    assert listing(workspace) == before


async def test_a_thread_that_is_being_run_is_refused(c: corral.Corral, workspace: Path) -> None:
    first = await run(c, saying("hello"))
    other = await run(c, saying("hello"))
    going, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> str:
        """Hold."""
        going.set()
        await go_on.wait()
        return "ok"

    agent = scripted([turn("", hold={}), turn("done")], hold)
    running = asyncio.create_task(run(c, agent, "Hold.", first.thread))
    await going.wait()
    with pytest.raises(ConflictError, match="is being run"):
        await c.rewind(first.thread, 0)
    with pytest.raises(ConflictError, match="in the same folder"):
        await c.rewind(other.thread, 0)
    go_on.set()
    await running
    assert (await c.rewind(first.thread, 0)).to == 0


async def test_a_rewound_run_can_be_forked(c: corral.Corral, workspace: Path) -> None:
    first, second, _ = await three(c, workspace)
    await c.rewind(first.thread, 1)
    at = next(e.seq for e in await c.records.trace(second.run) if e.kind == "model")
    agent = doing(lambda: (workspace / "fork.txt").write_text("forked"))
    result = await c.fork(second.run, corral.Fork(at=at), corral.RunOptions(agent=agent))
    assert (result.status, result.output) == ("completed", "done")
    assert result.thread != first.thread
    assert (await c.records.run(second.run)).rewound
    # The fork's thread can be rewound by itself: to what it was forked into.
    await c.rewind(result.thread, 0)
    assert not (workspace / "fork.txt").exists()
    assert await prompts_seen(c, result.thread) == ["prompt 1", "What was said?"]


async def carried_out(place: Path, point: int, *, undo: bool = False) -> int | None:
    """The exit code of a rewind in a process of its own that dies at a point."""
    process = forked.start(child, place, point, undo)
    await asyncio.to_thread(process.join, 60)
    return process.exitcode


@pytest.mark.slow
async def test_the_points_of_death_are_all_there_are(tmp_path: Path) -> None:
    _, before, _ = await prepare(tmp_path)
    assert await carried_out(tmp_path, POINTS + 1) == 0
    assert listing(tmp_path / "w") == before


@pytest.mark.slow
@pytest.mark.parametrize("point", range(1, POINTS + 1, 4))
async def test_a_rewind_that_is_killed_is_finished_by_the_next(tmp_path: Path, point: int) -> None:
    thread, before, _ = await prepare(tmp_path)
    assert await carried_out(tmp_path, point) == -9
    workspace = tmp_path / "w"
    async with corral.open(settings(tmp_path / "h", workspace)) as c:
        with pytest.raises(ConflictError, match="was cut off") as refused:
            await run(c, saying("no"), "Go on.", thread)
        assert f"corral rewind {thread}" in refused.value.hint
        report = await c.rewind(thread, 1)
        assert report.notes == ("A rewind that was cut off has been finished.",)
        assert report.failed == ()
        assert listing(workspace) == before
        assert await prompts_seen(c, thread) == ["one", "What was said?"]


@pytest.mark.slow
@pytest.mark.parametrize("point", [2, POINTS // 2, POINTS])
async def test_a_rewind_that_is_killed_can_be_undone(tmp_path: Path, point: int) -> None:
    thread, _, after = await prepare(tmp_path)
    assert await carried_out(tmp_path, point) == -9
    workspace = tmp_path / "w"
    async with corral.open(settings(tmp_path / "h", workspace)) as c:
        report = await c.undo_rewind(thread)
        assert report.failed == ()
        assert listing(workspace) == after
        assert await prompts_seen(c, thread) == ["one", "two", "What was said?"]


@pytest.mark.slow
async def test_an_undo_that_is_killed_is_finished_by_the_next(tmp_path: Path) -> None:
    thread, before, after = await prepare(tmp_path)
    workspace = tmp_path / "w"
    async with corral.open(settings(tmp_path / "h", workspace)) as c:
        await c.rewind(thread, 1)
    assert listing(workspace) == before
    assert await carried_out(tmp_path, POINTS // 2, undo=True) == -9
    async with corral.open(settings(tmp_path / "h", workspace)) as c:
        report = await c.undo_rewind(thread)
        assert report.failed == ()
        assert listing(workspace) == after
        assert await prompts_seen(c, thread) == ["one", "two", "What was said?"]


async def test_what_the_files_server_moved_and_deleted_comes_back(
    own_home: Path, workspace: Path
) -> None:
    (workspace / "moved").write_text("moved")
    (workspace / "folder").mkdir()
    (workspace / "folder" / "deleted").write_text("deleted")
    before = listing(workspace)
    calls = [
        {"name": "files__move", "args": {"source": "moved", "destination": "new/place"}},
        {"name": "files__delete", "args": {"path": "folder"}},
    ]
    rules = [{"server": "files", "action": "allow"}]
    model = corral.ScriptedModel([*({"tool_calls": [call]} for call in calls), turn("done")])
    agent = corral.Agent(servers=("files",), chat_model=model, facts=0)
    async with corral.open(settings(own_home, workspace, rules=rules)) as c:
        result = await run(c, agent, "Tidy up.")
        assert {path.name for path in workspace.iterdir()} == {"new", ".corral-trash"}
        report = await c.rewind(result.thread, to=0)
        assert not report.left_alone
        kept = {path: entry for path, entry in listing(workspace).items() if b"trash" not in path}
        assert kept == before
        await c.undo_rewind(result.thread)
        assert {path.name for path in workspace.iterdir()} == {"new", ".corral-trash"}
