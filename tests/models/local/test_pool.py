"""Several models in one process: loaded once, told of, freed in order, refused with numbers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from corral.errors import ModelError
from corral.runtime.models.contract import NoticeChunk
from corral.runtime.models.local.pool import EnginePool, EngineSpec, Handle, Tell

MIB = 1024**2


@dataclass
class Fake:
    """An engine that is nothing but its size."""

    name: str
    memory_bytes: int
    closed: list[str]

    def close(self) -> None:
        self.closed.append(self.name)


@dataclass
class Place:
    """A pool with 250 MiB for models of 100 MiB, and what happened in it."""

    free: int = 1000 * MIB
    loads: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)
    pool: EnginePool = field(init=False)

    def __post_init__(self) -> None:
        self.pool = EnginePool(lambda: self.free)

    def handle(
        self,
        name: str,
        load: Callable[[Tell], None] = lambda _: None,
        *,
        needs: int = 100 * MIB,
        limit: int | None = 250 * MIB,
        beyond_memory: bool = False,
    ) -> Handle[Fake]:
        def made(tell: Tell) -> Fake:
            self.loads.append(name)
            load(tell)
            return Fake(name, needs, self.closed)

        spec = EngineSpec(name, name, needs, made, limit=limit, beyond_memory=beyond_memory)
        return self.pool.open(spec)


@asynccontextmanager
async def using(handle: Handle[Fake]) -> AsyncIterator[Fake]:
    async with handle.lease() as lease:
        yield await lease.ready()


async def test_one_engine_for_all_who_ask_at_once() -> None:
    place = Place()

    async def ask() -> Fake:
        async with using(place.handle("a")) as engine:
            return engine

    engines = await asyncio.gather(*(ask() for _ in range(8)))
    assert len({id(engine) for engine in engines}) == 1
    assert place.loads == ["a"]


async def test_the_least_recently_used_makes_room() -> None:
    place = Place()
    a, b, c = (place.handle(name) for name in "abc")
    for handle in (a, b, a, c):
        async with using(handle):
            pass
    assert place.closed == ["b"]
    async with using(b):
        pass
    assert place.closed == ["b", "a"]
    assert place.loads == ["a", "b", "c", "b"]
    assert place.pool.memory_bytes == 200 * MIB


async def test_what_is_in_use_stays_and_loading_waits() -> None:
    place = Place()
    a, b, c = (place.handle(name) for name in "abc")
    waiting = asyncio.Event()

    async def ask_for_c() -> str:
        async with c.lease() as lease:
            async for notice in lease.notices():
                if "waits for the memory of a, b" in notice.text:
                    waiting.set()
            return lease.engine.name

    async with using(a):
        async with using(b):
            task = asyncio.create_task(ask_for_c())
            await waiting.wait()
            assert place.closed == []
        assert await task == "c"
        assert place.closed == ["b"]


async def test_one_that_is_no_longer_wanted_does_not_wait_on() -> None:
    place = Place()
    a, b = place.handle("a", limit=100 * MIB), place.handle("b", limit=100 * MIB)
    waiting = asyncio.Event()

    async def ask() -> None:
        async with b.lease() as lease:
            async for notice in lease.notices():
                if "waits" in notice.text:
                    waiting.set()

    async with using(a):
        task = asyncio.create_task(ask())
        await waiting.wait()
        task.cancel()
        async with using(place.handle("c", limit=None)) as engine:  # the thread is free again
            assert engine.name == "c"
    assert "b" not in place.loads


async def test_a_failure_is_told_to_all_and_can_be_tried_again() -> None:
    place = Place()
    go, failures = threading.Event(), [ModelError("It broke.", hint="Mend it.")]

    def load(_: Tell) -> None:
        go.wait(10)
        if failures:
            raise failures.pop()

    handle = place.handle("a", load)

    async def ask() -> str:
        async with using(handle) as engine:
            return engine.name

    tasks = [asyncio.create_task(ask()) for _ in range(3)]
    await asyncio.sleep(0)
    go.set()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, ModelError)
        assert (result.message, result.hint) == ("It broke.", "Mend it.")
    assert await ask() == "a"
    assert place.loads == ["a", "a"]


async def test_progress_is_told() -> None:
    def load(tell: Tell) -> None:
        assert all(tell(0.5 + tensor / 10_000) for tensor in range(400))
        assert tell(1.0)

    async with Place().handle("a", load).lease() as lease:
        notices = [notice async for notice in lease.notices()]
    assert notices == [NoticeChunk("loading a", done) for done in (0.0, 0.5, 1.0)]


async def test_who_loads_hears_that_nobody_waits() -> None:
    place = Place()
    told, left = asyncio.Event(), threading.Event()
    answers: list[bool] = []

    def load(tell: Tell) -> None:
        tell(0.1)
        left.wait(10)
        answers.append(tell(0.2))
        raise ModelError("given up")

    async def ask() -> None:
        async with place.handle("a", load).lease() as lease:
            async for notice in lease.notices():
                if notice.done:
                    told.set()

    task = asyncio.create_task(ask())
    await told.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    left.set()
    async with using(place.handle("b")):
        assert answers == [False]


async def test_who_comes_while_loading_is_given_up_gets_the_engine() -> None:
    place = Place()
    told, left, came = asyncio.Event(), threading.Event(), threading.Event()

    def load(tell: Tell) -> None:
        tell(0.1)
        left.wait(10)
        wanted = tell(0.2)
        came.wait(10)
        if not wanted:
            raise ModelError("given up")

    async def ask() -> str:
        async with handle.lease() as lease:
            async for notice in lease.notices():
                if notice.done == 0.1:
                    told.set()
            return lease.engine.name

    handle = place.handle("a", load)
    first = asyncio.create_task(ask())
    await told.wait()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    left.set()
    second = asyncio.create_task(ask())
    await asyncio.sleep(0)
    came.set()
    assert await second == "a"


async def test_larger_than_the_limit_is_refused_before_anything_is_freed() -> None:
    place = Place()
    async with using(place.handle("a")):
        pass
    with pytest.raises(ModelError, match=r"big needs 300 MiB; .* 250 MiB \(memory_mb"):
        async with using(place.handle("big", needs=300 * MIB)):
            pass
    assert (place.loads, place.closed) == (["a"], [])


async def test_larger_than_the_memory_is_refused_unless_told() -> None:
    place = Place(free=150 * MIB)
    with pytest.raises(ModelError, match="big needs 200 MiB of memory; 150 MiB is free") as error:
        async with using(place.handle("big", needs=200 * MIB, limit=None)):
            pass
    assert "beyond_memory" in error.value.hint
    handle = place.handle("told", needs=200 * MIB, limit=None, beyond_memory=True)
    async with using(handle) as engine:
        assert engine.name == "told"


async def test_free_memory_counts_what_can_be_freed() -> None:
    place = Place(free=50 * MIB)
    async with using(place.handle("a", needs=50 * MIB, limit=None)):
        place.free = 0
    place.free = 30 * MIB

    def freed(_: Tell) -> None:
        assert place.closed == ["a"]

    handle = place.handle("b", freed, needs=60 * MIB, limit=None)
    original = Fake.close

    def close(self: Fake) -> None:
        original(self)
        place.free += self.memory_bytes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Fake, "close", close)
        async with using(handle) as engine:
            assert engine.name == "b"


async def test_the_last_handle_frees_the_engine() -> None:
    place = Place()
    first, second = place.handle("a"), place.handle("a")
    async with using(first):
        pass
    await first.aclose()
    await first.aclose()
    assert place.closed == []
    await second.aclose()
    assert place.closed == ["a"]
    with pytest.raises(ModelError, match="closed"):
        async with using(second):
            pass


def test_an_engine_outlives_its_event_loop() -> None:
    place = Place()
    handle = place.handle("a")

    async def ask() -> str:
        async with using(handle) as engine:
            return engine.name

    assert asyncio.run(ask()) == asyncio.run(ask()) == "a"
    assert place.loads == ["a"]
