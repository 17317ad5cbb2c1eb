"""The models that this process has loaded: each once, whoever uses it, within a memory limit.

Loading happens on a thread of its own, one model at a time, and all who wait for it are told how
far it is. When room is needed the model goes that nobody uses and that was used longest ago; when
all are in use, loading waits. Safe to use from several threads and event loops.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from corral.errors import ModelError
from corral.runtime.models.contract import NoticeChunk
from corral.runtime.models.local.files.machine import available_memory
from corral.runtime.models.local.files.sizes import shown_bytes


class Poolable(Protocol):
    """What the pool asks of an engine. Both may be called from any thread."""

    @property
    def memory_bytes(self) -> int:
        """What it takes of this machine's memory."""
        ...

    def close(self) -> None:
        """Free it, once the answers that are being made have ended."""
        ...


E = TypeVar("E", bound=Poolable)
Tell = Callable[[float], bool]
"""Told how much is loaded, from 0 to 1; ``False`` when nobody waits for it any more."""


@dataclass(frozen=True)
class EngineSpec(Generic[E]):
    """How to load an engine. Two with the same ``key`` are one.

    ``needs`` is what it will take of this machine's memory and ``limit`` what all engines may take
    together, in bytes. ``beyond_memory`` loads it also where ``needs`` is more than is free.
    ``load`` runs on the loading thread.
    """

    key: Hashable
    name: str
    needs: int
    load: Callable[[Tell], E]
    limit: int | None = None
    beyond_memory: bool = False


_STEPS = 20
"""How often a loading tells how far it is, at most."""

Notices = asyncio.Queue[NoticeChunk | None]


@dataclass(eq=False)
class _Loading(Generic[E]):
    """One attempt to load; whoever waits for it has a queue here, which ends with ``None``."""

    done: Future[E] = field(default_factory=Future)
    queues: list[tuple[asyncio.AbstractEventLoop, Notices]] = field(default_factory=list)
    abandoned: bool = False
    told: int = 0

    def join(self) -> Notices:
        """A queue of the running event loop for what is said from now on."""
        queue: Notices = asyncio.Queue()
        self.queues.append((asyncio.get_running_loop(), queue))
        return queue

    def say(self, notice: NoticeChunk | None) -> None:
        """Tell all who wait. Called on the loading thread."""
        for loop, queue in tuple(self.queues):
            with suppress(RuntimeError):  # a loop that was closed: nobody waits there
                loop.call_soon_threadsafe(queue.put_nowait, notice)


@dataclass(eq=False)
class _Slot(Generic[E]):
    """One engine: loaded, being loaded or neither; who may use it, who does, and when last."""

    spec: EngineSpec[E]
    handles: int = 0
    leases: int = 0
    used: int = 0
    engine: E | None = None
    loading: _Loading[E] | None = None


class Lease(Generic[E]):
    """The right to use an engine: it stays loaded until the lease ends."""

    def __init__(self, engine: E | None, loading: _Loading[E] | None) -> None:
        self._engine = engine
        self._loading = loading
        self._queue = loading.join() if loading else None

    async def notices(self) -> AsyncIterator[NoticeChunk]:
        """How loading goes on, until the engine is there. Raises ``ModelError`` if it fails."""
        loading, self._loading = self._loading, None
        if loading is None or self._queue is None:
            return
        while (notice := await self._queue.get()) is not None:
            yield notice
        try:
            self._engine = loading.done.result()
        except ModelError as error:
            # Each that waits raises an error of its own: they add different tracebacks to it.
            raise ModelError(error.message, hint=error.hint) from error

    async def ready(self) -> E:
        """The engine, once it is loaded. Raises ``ModelError``."""
        async for _ in self.notices():
            pass
        return self.engine

    @property
    def engine(self) -> E:
        """The engine; ``notices`` must have ended."""
        assert self._engine is not None, "the engine is not loaded yet"
        return self._engine


class Handle(Generic[E]):
    """One user's way to an engine, which is loaded when it is first leased."""

    def __init__(self, pool: EnginePool, slot: _Slot[E]) -> None:
        self._pool = pool
        self._slot: _Slot[E] | None = slot

    @property
    def loaded(self) -> E | None:
        """The engine, if it is loaded at this moment."""
        return self._slot.engine if self._slot else None

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Lease[E]]:
        """Use the engine. Raises ``ModelError`` after ``aclose``."""
        slot = self._slot
        if slot is None:
            raise ModelError("The model has been closed.", hint="Open it again.")
        lease = self._pool._begin(slot)
        try:
            yield lease
        finally:
            self._pool._end(slot)

    async def aclose(self) -> None:
        """Give it up: the engine is freed when nobody else has a handle. Safe to call twice."""
        slot, self._slot = self._slot, None
        if slot is not None:
            await asyncio.to_thread(self._pool._give_up, slot)


class EnginePool:
    """Engines of any kind by their keys. ``available`` gives the bytes of memory that are free."""

    def __init__(self, available: Callable[[], int] = available_memory) -> None:
        self._available = available
        self._clock = 0
        self.start_afresh()

    def start_afresh(self) -> None:
        """Know of no engine. For a forked child, which has none of its parent's threads."""
        self._slots: dict[Hashable, _Slot[Any]] = {}
        self._changed = threading.Condition()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="corral-load")

    def open(self, spec: EngineSpec[E]) -> Handle[E]:
        """A way to an engine; nothing is loaded yet."""
        with self._changed:
            slot = self._slots.setdefault(spec.key, _Slot(spec))
            slot.handles += 1
            return Handle(self, slot)

    @property
    def memory_bytes(self) -> int:
        """What all loaded engines take."""
        with self._changed:
            return sum(slot.engine.memory_bytes for slot in self._slots.values() if slot.engine)

    def _begin(self, slot: _Slot[E]) -> Lease[E]:
        with self._changed:
            slot.leases += 1
            self._touch(slot)
            if slot.engine is not None or slot.loading is not None:
                return Lease(slot.engine, slot.loading)
            slot.loading = _Loading()
            lease = Lease(slot.engine, slot.loading)
            self._thread.submit(self._load, slot, slot.loading)
            return lease

    def _end(self, slot: _Slot[E]) -> None:
        with self._changed:
            slot.leases -= 1
            self._touch(slot)
            self._changed.notify_all()

    def _touch(self, slot: _Slot[E]) -> None:
        self._clock += 1
        slot.used = self._clock

    def _give_up(self, slot: _Slot[E]) -> None:
        with self._changed:
            slot.handles -= 1
            self._changed.notify_all()
            if slot.handles:
                return
            if self._slots.get(slot.spec.key) is slot:
                del self._slots[slot.spec.key]
            self._changed.wait_for(lambda: slot.loading is None)
            engine, slot.engine = slot.engine, None
        if engine is not None:
            engine.close()

    def _load(self, slot: _Slot[E], loading: _Loading[E]) -> None:
        """On the loading thread: make room, load, and tell all who wait."""
        try:
            self._make_room(slot, loading)
            loading.say(NoticeChunk(f"loading {slot.spec.name}", 0.0))
            engine = slot.spec.load(lambda done: self._progress(slot, loading, done))
        except Exception as error:  # noqa: BLE001  # whatever it is, it is for those who wait
            if self._wanted_again(slot, loading):
                return
            loading.done.set_exception(error)
        else:
            self._settle(slot, engine)
            loading.done.set_result(engine)
        loading.say(None)

    def _settle(self, slot: _Slot[E], engine: E | None) -> None:
        with self._changed:
            slot.engine, slot.loading = engine, None
            self._changed.notify_all()

    def _wanted_again(self, slot: _Slot[E], loading: _Loading[E]) -> bool:
        """After a failure: whether it came of nobody waiting, and somebody does by now."""
        with self._changed:
            if loading.abandoned and slot.leases:
                loading.abandoned = False
                self._thread.submit(self._load, slot, loading)
                return True
        self._settle(slot, None)
        return False

    def _progress(self, slot: _Slot[E], loading: _Loading[E], done: float) -> bool:
        step = int(done * _STEPS)
        if step > loading.told:  # llama.cpp tells of every tensor, hundreds of times
            loading.told = step
            loading.say(NoticeChunk(f"loading {slot.spec.name}", done))
        loading.abandoned = loading.abandoned or slot.leases == 0
        return not loading.abandoned

    def _make_room(self, slot: _Slot[E], loading: _Loading[E]) -> None:
        """Free engines until this one fits; wait where all of them are in use."""
        spec = slot.spec
        while (victim := self._next_victim(slot, loading)) is not None:
            loading.say(NoticeChunk(f"making room for {spec.name}"))
            victim.close()
        if slot.leases == 0:
            loading.abandoned = True
            raise ModelError(f"Nobody waits for {spec.name} any more.")

    def _next_victim(self, slot: _Slot[E], loading: _Loading[E]) -> Poolable | None:
        """An engine to free, once one is idle; ``None`` when there is room or nobody waits."""
        with self._changed:
            while slot.leases:
                loaded = [other for other in self._slots.values() if other.engine is not None]
                missing = self._missing(slot.spec, loaded)
                if missing is None:
                    return None
                idle = [other for other in loaded if other.leases == 0]
                if idle:
                    oldest = min(idle, key=lambda other: other.used)
                    victim: Poolable | None = oldest.engine
                    oldest.engine = None
                    return victim
                if not loaded:
                    raise missing
                names = ", ".join(sorted(other.spec.name for other in loaded))
                loading.say(NoticeChunk(f"{slot.spec.name} waits for the memory of {names}"))
                self._changed.wait()
        return None

    def _missing(self, spec: EngineSpec[E], loaded: list[_Slot[Any]]) -> ModelError | None:
        """Why there is no room at this moment. Raises it when there never will be."""
        taken = sum(other.engine.memory_bytes for other in loaded if other.engine)
        if spec.limit is not None and taken + spec.needs > spec.limit:
            error = ModelError(
                f"{spec.name} needs {shown_bytes(spec.needs)}; all models together may take "
                f"{shown_bytes(spec.limit)} (memory_mb of [local]).",
                hint="Raise memory_mb, choose a smaller context_window, or use a smaller model.",
            )
            return self._for_now(error, never=spec.needs > spec.limit)
        free = self._available()
        if spec.beyond_memory or spec.needs <= free:
            return None
        error = ModelError(
            f"{spec.name} needs {shown_bytes(spec.needs)} of memory; {shown_bytes(free)} is free.",
            hint="Use a smaller model or context_window, free some memory, or set beyond_memory "
            "of [local] to have the weights read from the disk as they are needed, which is slow.",
        )
        return self._for_now(error, never=spec.needs > free + taken)

    def _for_now(self, error: ModelError, *, never: bool) -> ModelError:
        if never:
            raise error
        return error


POOL = EnginePool()
"""All models that this process has loaded: their limit is one."""

os.register_at_fork(after_in_child=POOL.start_afresh)
