"""Runs by handle in one process: begun, waited for, watched, answered, cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import Table, func, select

import corral
from corral.agents.hosting.contract import Order
from corral.agents.hosting.local import LocalRuns
from corral.agents.hosting.orders import MOST_OPEN
from corral.errors import ConflictError, NotFoundError, UsageError
from corral.runtime.approvals.replies import Approved, Denied
from corral.runtime.events import RunFinished, TextDelta
from corral.runtime.tables import served_runs, threads
from tests.agents.hosting.house import (
    ME,
    OTHER,
    STAND,
    House,
    ended,
    runs_code,
    says,
    until_begun,
)
from tests.sandbox.inside import _command_line, _processes, wait_until


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def count(c: corral.Corral, table: Table) -> int:
    query = select(func.count()).select_from(table)
    return await c.records.database.read(lambda connection: connection.execute(query).scalar_one())


async def test_a_run_is_begun_and_ends_with_its_answer_and_its_steps(house: House) -> None:
    house.agent("worker", runs_code("print(6 * 7)", "It is 42."), description="Computes.")
    async with house.open() as (c, runs):
        started = await runs.start(ME, Order("worker", "Compute."))
        done = await ended(runs, started.run)
        assert (done.status, done.answer, done.steps) == ("completed", "It is 42.", 2)
        assert done.happened == (
            "said: Let me see.",
            'called python__run_code(code="print(6 * 7)"); it gave: 42',
        )
        assert done.totals.output_tokens > 0
        assert (await c.records.run(started.run)).thread == started.thread == done.thread
        entries = await runs.trace(ME, started.run)
        assert [entry.kind for entry in entries] == ["prepare", "model", "tool", "model"]
        (offer,) = [offer for offer in await runs.offers() if offer.name == "worker"]
        assert (offer.description, offer.read_only, offer.open_world) == (
            "Computes.",
            False,
            False,
        )


async def test_what_an_agent_with_a_type_answers_is_a_value(house: House) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    house.agent("worker", says('{"n": 42}'), returns=schema, servers=[])
    async with house.open() as (_, runs):
        done = await ended(runs, (await runs.start(ME, Order("worker", "Count."))).run)
        assert (done.status, done.value) == ("completed", {"n": 42})
        (offer,) = [offer for offer in await runs.offers() if offer.name == "worker"]
        assert (offer.returns, offer.read_only) == (schema, True)


async def test_another_owner_is_told_what_one_is_told_who_has_made_it_up(house: House) -> None:
    house.agent("worker", runs_code("1"))
    asking = House(house.root, asking=True)
    async with asking.open() as (_, runs):
        waiting = await ended(runs, (await runs.start(ME, Order("worker", "Do it."))).run)
        (question,) = waiting.approvals

        def attempts(run: str, approval: str, thread: str) -> list[Callable[[], Awaitable[object]]]:
            return [
                lambda: runs.report(OTHER, run),
                lambda: runs.wait(OTHER, run, 0),
                lambda: anext(aiter(runs.watch(OTHER, run))),
                lambda: runs.cancel(OTHER, run),
                lambda: runs.send(OTHER, run, "Hello."),
                lambda: runs.trace(OTHER, run),
                lambda: runs.answer(OTHER, approval, Approved(), "me"),
                lambda: runs.start(OTHER, Order("worker", "Hello.", thread=thread)),
            ]

        async def told(run: str, approval: str, thread: str) -> list[str]:
            found = []
            for attempt in attempts(run, approval, thread):
                with pytest.raises(NotFoundError) as error:
                    await attempt()
                found.append(str(error.value))
            return found

        real = await told(waiting.run, question.id, waiting.thread)
        names = ((waiting.run, "r-0"), (question.id, "a-0"), (waiting.thread, "t-0"))
        for name, made_up in names:
            real = [text.replace(name, made_up) for text in real]
        assert real == await told("r-0", "a-0", "t-0")
        assert await runs.listing(OTHER) == []
        assert (await runs.report(ME, waiting.run)).status == "waiting"


async def test_an_order_that_is_sent_twice_is_one_run(house: House) -> None:
    house.agent("worker", says("Done."), servers=[])
    async with house.open() as (_, runs):
        order = Order("worker", "Do it.", key="k1")
        both = await asyncio.gather(runs.start(ME, order), runs.start(ME, order))
        assert both[0].run == both[1].run
        assert (await runs.start(OTHER, order)).run != both[0].run
        await ended(runs, both[0].run)
        assert (await runs.start(ME, order)).answer == "Done."
        with pytest.raises(ConflictError, match="another order"):
            await runs.start(ME, Order("worker", "Do something else.", key="k1"))
        assert len(await runs.listing(ME)) == 1


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (Order("nobody", "Do it."), "There is no agent 'nobody'"),
        (Order("worker", "  "), "The prompt is empty"),
        (Order("worker", "Do it.", thread="t-0"), "There is no thread 't-0'"),
        (Order("worker", "Do it.", budget={"tokens": -1}), "The budget cannot be used: tokens"),
        (Order("", "", tool="run_code"), "'run_code' is no tool's name"),
        (Order("", "", tool="nowhere__run"), "There is no tool server 'nowhere'"),
    ],
)
async def test_what_cannot_be_done_is_refused_and_leaves_nothing(
    house: House, order: Order, said: str
) -> None:
    house.agent("worker", says("Done."))
    async with house.open() as (c, runs):
        with pytest.raises(UsageError, match=said):
            await runs.start(ME, order)
        assert await count(c, served_runs) == await count(c, threads) == 0


async def test_what_is_wrong_only_when_it_begins_leaves_nothing_either(house: House) -> None:
    house.agent("worker", says("Done."), policy={"name": "missing.toml"})
    async with house.open() as (c, runs):
        with pytest.raises(UsageError, match=r"missing\.toml"):
            await runs.start(ME, Order("worker", "Do it."))
        assert await count(c, served_runs) == await count(c, threads) == 0


async def test_one_that_is_answered_by_its_client_goes_on(house: House) -> None:
    house.agent("worker", runs_code("print(1)", "It is one."))
    async with House(house.root, asking=True).open() as (c, runs):
        waiting = await ended(runs, (await runs.start(ME, Order("worker", "Do it."))).run)
        assert (waiting.status, waiting.approvals[0].tool) == ("waiting", "python__run_code")
        again = [
            await runs.answer(ME, waiting.approvals[0].id, Approved(), "elicitation:me")
            for _ in range(2)
        ]
        assert {report.status for report in again} <= {"running", "completed"}
        done = await ended(runs, waiting.run)
        assert (done.status, done.answer) == ("completed", "It is one.")
        answered = await c.records.approval(waiting.approvals[0].id)
        assert answered.answered_by == "elicitation:me"
        with pytest.raises(ConflictError, match="that answer stands"):
            await runs.answer(ME, answered.id, Denied("no"), "elicitation:me")


async def test_one_that_is_answered_elsewhere_goes_on_by_itself(house: House) -> None:
    house.agent("worker", runs_code("print(1)", "It is one."))
    asking = House(house.root, asking=True)
    async with asking.open() as (_, runs):
        waiting = await ended(runs, (await runs.start(ME, Order("worker", "Do it."))).run)
        async with corral.open(asking.settings()) as terminal:
            await terminal.approve(waiting.approvals[0].id)
        done = await ended(runs, waiting.run)
        assert (done.status, done.answer) == ("completed", "It is one.")


async def test_what_is_said_meanwhile_waits_for_the_thread_and_keeps_its_order(
    house: House,
) -> None:
    house.agent("worker", runs_code(STAND, "First."))
    house.agent("talker", says("Heard."), servers=[])
    async with house.open() as (c, runs):
        first = await runs.start(ME, Order("worker", "Do it."))
        await until_begun(house)
        order = Order("talker", "More.", thread=first.thread)
        more = [await runs.start(ME, order) for _ in range(2)]
        assert [one.status for one in more] == ["queued", "queued"]
        house.let_go_on()
        assert [(await ended(runs, one.run)).answer for one in (first, *more)] == [
            "First.",
            "Heard.",
            "Heard.",
        ]
        in_order = [run.run for run in reversed(await c.records.runs(thread=first.thread))]
        assert in_order == [first.run, more[0].run, more[1].run]


async def test_more_can_be_said_in_a_conversation_that_has_ended(house: House) -> None:
    house.agent("worker", says("Yes."), servers=[])
    async with house.open() as (_, runs):
        first = await ended(runs, (await runs.start(ME, Order("worker", "Is it?"))).run)
        second = await ended(runs, (await runs.send(ME, first.run, "And now?")).run)
        assert (second.thread, second.prompt, second.answer) == (first.thread, "And now?", "Yes.")
        assert [one.run for one in await runs.listing(ME)] == [second.run, first.run]


async def test_a_watcher_is_told_what_happens_to_the_end(house: House) -> None:
    house.agent("worker", runs_code(STAND, "All is done."))
    async with house.open() as (_, runs):
        started = await runs.start(ME, Order("worker", "Do it."))
        await until_begun(house)
        watching = asyncio.create_task(_all(runs, started.run))
        await asyncio.sleep(0)
        house.let_go_on()
        told = await watching
        assert "".join(e.text for e in told if isinstance(e, TextDelta)) == "All is done."
        assert isinstance(told[-1], RunFinished)
        assert await _all(runs, started.run) == []


async def _all(runs: LocalRuns, run: str) -> list[object]:
    return [event async for event in runs.watch(ME, run)]


async def test_cancelling_ends_what_a_tool_has_started(house: House) -> None:
    token = "corral-cancelled-5b1f"  # stands in the command line of what the tool starts
    child = f"[sys.executable, '-c', 'import time; time.sleep(1000)', '{token}']"
    code = f"import subprocess, sys\nsubprocess.run({child})"
    house.agent("worker", runs_code(code))
    house.agent("talker", says("It is quiet."), servers=[])
    async with house.open() as (c, runs):
        started = await runs.start(ME, Order("worker", "Do it."))
        await asyncio.to_thread(wait_until, lambda: alive(token), "the process", 60)
        stopped = await runs.cancel(ME, started.run)
        assert (stopped.status, (await c.records.run(started.run)).status) == (
            "cancelled",
            "stopped",
        )
        await asyncio.to_thread(wait_until, lambda: not alive(token), "its end", 60)
        assert (await runs.cancel(ME, started.run)).status == "cancelled"
        more = await runs.start(ME, Order("talker", "And now?", thread=started.thread))
        assert (await ended(runs, more.run)).answer == "It is quiet."


def alive(token: str) -> bool:
    return any(
        token in _command_line(pid) and "sleep" in _command_line(pid) for pid in _processes()
    )


async def test_cancelling_ends_sub_agents_and_what_waits(house: House) -> None:
    house.agent("worker", runs_code(STAND))
    task = {"name": "agents__worker", "args": {"task": "Do it."}}
    house.agent("lead", [{"text": "", "tool_calls": [task]}, {"text": "Done."}], agents=["worker"])
    async with house.open() as (c, runs):
        started = await runs.start(ME, Order("lead", "Do it."))
        await until_begun(house)
        queued = await runs.start(ME, Order("lead", "More.", thread=started.thread))
        assert (await runs.cancel(ME, queued.run)).status == "cancelled"
        assert (await runs.cancel(ME, started.run)).status == "cancelled"
        assert (await runs.report(ME, queued.run)).status == "cancelled"
        assert [run.run for run in await c.records.runs()] == [started.run]
        entries = {entry.kind: entry.status for entry in await runs.trace(ME, started.run)}
        assert entries["tool"] != "finished"


async def test_cancelling_withdraws_the_question_and_leaves_what_has_ended(house: House) -> None:
    house.agent("worker", runs_code("1"))
    house.agent("talker", says("Yes."), servers=[])
    async with House(house.root, asking=True).open() as (c, runs):
        waiting = await ended(runs, (await runs.start(ME, Order("worker", "Do it."))).run)
        assert (await runs.cancel(ME, waiting.run)).status == "cancelled"
        assert await c.approvals() == []
        done = await ended(runs, (await runs.start(ME, Order("talker", "Is it?"))).run)
        assert (await runs.cancel(ME, done.run)).status == "completed"


async def test_one_call_of_a_tool_is_a_run(house: House) -> None:
    house.agent("worker", says("Unused."))
    async with house.open() as (c, runs):
        order = Order("", "", tool="python__run_code", args={"code": "print('hi')\n6 * 7"})
        done = await ended(runs, (await runs.start(ME, order)).run)
        assert (done.status, done.steps) == ("completed", 0)
        assert isinstance(done.value, dict)
        assert (done.value["stdout"], done.value["value"]) == ("hi\n", "42")
        assert (await c.replay(done.run)).status == "identical"
        with pytest.raises(UsageError, match="nobody is there to talk to"):
            await runs.send(ME, done.run, "Thanks.")
        missing = Order("", "", tool="files__read_file", args={"path": "missing.txt"})
        failed = await ended(runs, (await runs.start(ME, missing)).run)
        assert failed.status == "failed"
        assert "missing.txt" in failed.error


async def test_a_call_that_policy_wants_asked_waits_and_one_that_it_denies_fails(
    house: House,
) -> None:
    house.agent("worker", says("Unused."))
    order = Order("", "", tool="python__run_code", args={"code": "7"})
    async with House(house.root, asking=True).open() as (_, runs):
        waiting = await ended(runs, (await runs.start(ME, order)).run)
        await runs.answer(ME, waiting.approvals[0].id, Denied("not today"), "elicitation:me")
        failed = await ended(runs, waiting.run)
        assert failed.status == "failed"
        assert "not today" in failed.error
        names = {spec.name for spec in await runs.tools()}
        assert {"python__run_code", "files__read_file", "memory__recall"} <= names
    with house.config.open("a") as file:
        file.write('[[rules]]\ntool = "python__*"\naction = "deny"\n')
    async with house.open() as (_, runs):
        names = {spec.name for spec in await runs.tools()}
        assert "files__read_file" in names
        assert not any(name.startswith("python__") for name in names)


async def test_deleting_a_thread_takes_its_orders_along(house: House) -> None:
    house.agent("worker", says("Yes."), servers=[])
    async with house.open() as (c, runs):
        done = await ended(runs, (await runs.start(ME, Order("worker", "Is it?"))).run)
        await c.records.delete(done.thread)
        assert await count(c, served_runs) == 0
        with pytest.raises(NotFoundError):
            await runs.report(ME, done.run)


async def test_one_owner_can_have_only_so_many_runs_that_have_not_ended(house: House) -> None:
    house.agent("worker", runs_code(STAND))
    async with house.open() as (_, runs):
        first = await runs.start(ME, Order("worker", "Do it."))
        order = Order("worker", "More.", thread=first.thread)
        for _ in range(MOST_OPEN - 1):
            await runs.start(ME, order)
        with pytest.raises(ConflictError, match="have not ended"):
            await runs.start(ME, order)
        assert (await runs.start(OTHER, Order("worker", "Do it."))).run


async def test_secrets_are_not_stored_with_an_order(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PAY_TOKEN", "correct-horse-battery-94")
    house.agent("worker", runs_code(STAND))
    async with house.open() as (c, runs):
        first = await runs.start(ME, Order("worker", "Use correct-horse-battery-94."))
        queued = await runs.start(
            ME, Order("worker", "Again correct-horse-battery-94.", thread=first.thread)
        )
        assert "correct-horse" not in first.prompt + queued.prompt
        args = {"code": "'correct-horse-battery-94'"}
        await runs.start(ME, Order("", "", tool="python__run_code", args=args))
        rows = await c.records.database.read(
            lambda connection: connection.execute(select(served_runs.c.work)).scalars().all()
        )
        assert len(rows) == 3
        assert "correct-horse" not in "".join(rows)
