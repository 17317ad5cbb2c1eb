"""The run host in this process: its socket, who may come, who is told what, and when it ends."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import stat
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from corral.agents.hosting import place as places
from corral.agents.hosting.contract import Order
from corral.agents.hosting.endpoint import Endpoint
from corral.agents.hosting.host import Host
from corral.agents.hosting.local import LocalRuns
from corral.agents.hosting.lock import Lock
from corral.agents.hosting.place import Place, find_place
from corral.agents.hosting.remote import HostedRuns
from corral.errors import ConflictError, NotFoundError, RunError
from corral.jsontypes import JsonObject
from corral.runtime.approvals.replies import Always, Approved, Denied, Given, Stopped
from corral.runtime.events import ApprovalRequested, RunFinished
from tests.agents.hosting.house import ME, OTHER, STAND, House, ended, runs_code, says, until_begun


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


@pytest.fixture(autouse=True)
def no_other_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever finds no host here fails; a process of its own is tried in ``test_process.py``."""

    def refuse(place: Place, until: float) -> None:
        places.make_folder(place.folder)
        raise RunError("no host is there")

    monkeypatch.setattr(places, "_started", refuse)


def place_of(house: House) -> Place:
    return find_place(house.root / "home", house.workspace, house.config)


async def serve_runs(
    runs: LocalRuns, reader: StreamReader, writer: StreamWriter, _hello: JsonObject
) -> None:
    await Endpoint(runs, reader, writer).serve()


@asynccontextmanager
async def hosting(house: House) -> AsyncIterator[tuple[Place, Host]]:
    """A host of this process; it leaves in the end."""
    place = place_of(house)
    async with house.open(place.account) as (_, runs):
        host = Host(place, Lock(place), runs, {"runs": serve_runs}, 600)
        listening = asyncio.Event()
        serving = asyncio.create_task(host.serve(listening.set))
        await listening.wait()
        try:
            yield place, host
        finally:
            host.leave()
            await serving
            await host.drain()


@asynccontextmanager
async def raw(place: Place, **hello: Any) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """A connection that says ``hello`` as it is."""
    reader, writer = await asyncio.open_unix_connection(str(place.socket))
    writer.write(json.dumps(hello).encode() + b"\n")
    try:
        yield reader, writer
    finally:
        writer.close()


async def test_all_that_runs_can_do_can_be_done_over_the_socket(house: House) -> None:
    house.agent("worker", runs_code("print(6 * 7)", "It is 42."))
    asking = House(house.root, asking=True)
    async with hosting(asking) as (place, _), HostedRuns.open(place) as runs:
        assert "worker" in {offer.name for offer in await runs.offers()}
        assert "python__run_code" in {spec.name for spec in await runs.tools()}
        started = await runs.start(ME, Order("worker", "Compute.", key="k"))
        assert (await runs.start(ME, Order("worker", "Compute.", key="k"))).run == started.run
        told = [event async for event in runs.watch(ME, started.run)]
        waiting = await ended(runs, started.run)
        (question,) = waiting.approvals
        finished = [event.result for event in told if isinstance(event, RunFinished)]
        assert [one.approvals for one in finished] in ([], [(question,)])
        assert all(e.approval == question for e in told if isinstance(e, ApprovalRequested))
        await runs.answer(ME, question.id, Approved({"code": "print(7 * 7)"}), "elicitation:me")
        done = await ended(runs, started.run)
        assert (done.status, done.answer) == ("completed", "It is 42.")
        assert [one.kind for one in await runs.trace(ME, done.run)][-1] == "model"
        more = await runs.send(ME, done.run, "Again.")
        await ended(runs, more.run)
        assert (await runs.cancel(ME, more.run)).status == "cancelled"
        assert [one.run for one in await runs.listing(ME)] == [more.run, done.run]
        with pytest.raises(NotFoundError, match="There is no run"):
            await runs.report(OTHER, done.run)
        with pytest.raises(ConflictError, match="another order"):
            await runs.start(ME, Order("worker", "Other.", key="k"))


@pytest.mark.parametrize(
    "reply",
    [
        Approved(),
        Approved({"a": [1, "é"]}, Always(2, "thread", "7d")),
        Denied("no", always=True),
        Given("text"),
        Stopped("enough"),
    ],
)
def test_every_answer_crosses_the_socket_as_it_is(reply: Any) -> None:
    from corral.agents.hosting import wire

    assert wire.reply_of(json.loads(json.dumps(wire.reply_to_json(reply)))) == reply


async def test_many_wait_on_one_connection_and_who_stops_waiting_stops_nothing(
    house: House,
) -> None:
    house.agent("worker", runs_code(STAND))
    async with hosting(house) as (place, host), HostedRuns.open(place) as runs:
        started = await runs.start(ME, Order("worker", "Do it."))
        await until_begun(house)
        waiting = [asyncio.create_task(ended(runs, started.run)) for _ in range(50)]
        assert (await runs.report(ME, started.run)).status == "running"
        waiting.pop().cancel()
        house.let_go_on()
        assert {report.status for report in await asyncio.gather(*waiting)} == {"completed"}
        assert not host.runs.is_busy


async def test_what_was_begun_goes_on_when_all_have_left(house: House) -> None:
    house.agent("worker", runs_code(STAND))
    async with hosting(house) as (place, _):
        async with HostedRuns.open(place) as runs:
            started = await runs.start(ME, Order("worker", "Do it."))
            await until_begun(house)
        house.let_go_on()
        async with HostedRuns.open(place) as runs:
            assert (await ended(runs, started.run)).status == "completed"


async def test_an_idle_host_leaves_its_place(house: House) -> None:
    house.agent("worker", says("Done."))
    place = place_of(house)
    async with house.open() as (_, runs):
        host = Host(place, Lock(place), runs, {"runs": serve_runs}, 0)
        await host.serve(lambda: None)
    assert list(place.folder.iterdir()) == []
    assert Lock(place).is_mine


async def test_what_killed_hosts_have_left_is_removed(house: House) -> None:
    house.agent("worker", says("Done."))
    place = place_of(house)
    killed, alive = replace(place, name="killed"), replace(place, name="alive")
    places.make_folder(place.folder)
    other = Lock(alive)
    for left in (killed.lock, killed.socket, alive.socket):
        left.touch()
    asking = place.home / "run" / "asks-r-killed"
    asking.parent.mkdir(parents=True, exist_ok=True)
    asking.touch()
    for log, age in ((killed.log, 40), (alive.log, 20)):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        os.utime(log, (time.time() - age * 86_400,) * 2)
    async with hosting(house):
        assert {file.stem for file in place.folder.iterdir()} == {place.name, "alive"}
        assert alive.socket.exists()
        assert not asking.exists()
        assert (killed.log.exists(), alive.log.exists()) == (False, True)
    other.release()


def test_a_lock_that_its_host_removes_meanwhile_is_no_lock(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = place_of(house)
    before = Lock(place)
    flock = fcntl.flock

    def after_the_host_has_left(file: int, how: int) -> None:
        before.release()
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", after_the_host_has_left)
    mine = Lock(place)
    assert mine.is_mine
    assert not Lock(place).is_mine
    mine.release()


async def test_there_is_one_host_at_a_place_and_a_dead_ones_socket_is_no_hindrance(
    house: House,
) -> None:
    house.agent("worker", says("Done."))
    place = place_of(house)
    places.make_folder(place.folder)
    place.socket.touch()
    async with hosting(house):
        assert not Lock(place).is_mine
        assert places.is_served(place.home, place.account)
        assert stat.S_IMODE(place.socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.folder.stat().st_mode) == 0o700
    assert not places.is_served(place.home, place.account)


async def test_a_newer_corral_has_it_drain(house: House) -> None:
    house.agent("worker", runs_code(STAND))
    async with hosting(house) as (place, host), HostedRuns.open(place) as runs:
        started = await runs.start(ME, Order("worker", "Do it."))
        await until_begun(house)
        async with raw(place, corral="999.0", protocol=1, **{"as": "runs"}) as (reader, _):
            assert json.loads(await reader.readline()) == {"retry": True}
        await until_free(place)
        assert host.runs.is_busy  # what it works on comes to its end here
        house.let_go_on()
        assert (await ended(runs, started.run)).status == "completed"


async def until_free(place: Place) -> None:
    """Wait until another host could take the place."""
    while True:
        lock = Lock(place)
        if lock.is_mine:
            lock.release()
            return
        await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "hello",
    [
        {"corral": "0.0.1", "protocol": 1, "as": "nothing"},
        {"corral": "0.0.1", "protocol": 999, "as": "runs"},
        {},
    ],
)
async def test_who_speaks_otherwise_is_told_so(house: House, hello: dict[str, Any]) -> None:
    house.agent("worker", says("Done."))
    async with hosting(house) as (place, _), raw(place, **hello) as (reader, _writer):
        answer = json.loads(await reader.readline())
        assert "Restart the client" in answer["error"]["hint"]
        assert await reader.read() == b""


@pytest.mark.parametrize("noise", [b"\xff\xfe\n", b"[]\n", b'{"id": "x"}\n', b"x" * 1000])
async def test_noise_ends_one_connection_and_not_the_host(house: House, noise: bytes) -> None:
    house.agent("worker", says("Done."))
    async with hosting(house) as (place, _):
        async with raw(place, corral="0", protocol=1, **{"as": "runs"}) as (reader, writer):
            assert json.loads(await reader.readline())["ok"]
            writer.write(noise)
            writer.write_eof()
            assert await reader.read() == b""
        async with HostedRuns.open(place) as runs:
            assert await runs.offers()


async def test_another_users_folder_and_a_missing_host_are_said(house: House) -> None:
    house.agent("worker", says("Done."))
    place = place_of(house)
    place.folder.mkdir(parents=True, mode=0o755)
    place.folder.chmod(0o777)
    with pytest.raises(RunError, match="not yours alone"):
        await asyncio.to_thread(places.connect, place, {"as": "runs"})


def test_the_place_depends_on_what_decides_what_a_run_does(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.agent("worker", says("Done."))
    environ = {"HOME": str(house.root), "CORRAL_HOME": str(house.root / "home"), "OTHER": "1"}

    def found(**changes: str) -> Place:
        return find_place(None, house.workspace, house.config, {**environ, **changes})

    plain = found()
    assert found(OTHER="2", SOME_SESSION_TOKEN="3") == plain
    for name in ("OPENAI_API_KEY", "CORRAL_MODEL", "OPENAI_BASE_URL", "HTTPS_PROXY"):
        assert found(**{name: "x"}).account != plain.account
    with house.config.open("a") as file:
        file.write("# uses ${OTHER}\n")
    changed = found()
    assert changed.name != plain.name
    assert found(OTHER="2").account != changed.account
    assert find_place(None, house.root, house.config, environ).account != changed.account


def test_the_home_is_that_of_the_settings(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    from corral.runtime.config import load_settings

    house.agent("worker", says("Done."))
    monkeypatch.delenv("CORRAL_HOME")
    for text in ("", f'home = "{house.root}/elsewhere"\n'):
        house.config.write_text(text)
        place = find_place(None, house.workspace, house.config)
        named = {"workspace": house.workspace, "config": house.config}
        assert place.home == load_settings(named).home


def test_a_long_path_is_no_hindrance(house: House) -> None:
    place = find_place(house.root / ("x" * 150), house.workspace, None)
    assert len(os.fsencode(place.socket)) <= 100
    assert replace(place, folder=place.folder).lock.parent == place.folder
