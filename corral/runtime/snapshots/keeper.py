"""Keeps the workspace once a run, before the run's first call that may change something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from corral.errors import CorralError, StorageError
from corral.runtime.database import Database
from corral.runtime.effects import Effect
from corral.runtime.events import Event, Notice
from corral.runtime.sections import SnapshotConfig
from corral.runtime.snapshots.store import Snapshots


@dataclass
class Keeper:
    """The door's station before a call is made, for one execution of a run.

    A run that only looks is never kept. Where the workspace cannot be kept the run goes on: its
    listeners are told, and the database remembers why, for whoever wants to rewind later.
    """

    database: Database
    config: SnapshotConfig
    workspace: str
    thread: str
    run: str
    emit: Callable[[Event], None]
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _done: bool = False

    async def before(self, effect: Effect) -> None:
        """Keep the workspace, unless the effect cannot change it or it has been kept."""
        if self._done or effect.guard is None or effect.pure or not self.config.enabled:
            return
        if effect.guard.spec.trusted and effect.guard.spec.read_only:
            return
        async with self._turn:
            if not self._done:
                # A call that must not happen twice is flushed to the disk by the journal next,
                # and everything before it with it.
                await self._keep(durable=effect.repeatable)
                self._done = True

    async def _keep(self, *, durable: bool) -> None:
        snapshots = Snapshots(self.database, self.workspace, self.config)
        try:
            await snapshots.take(self.thread, self.run, durable=durable)
        except CorralError as error:
            self.emit(
                Notice(
                    "The files of the workspace are not kept, so a rewind cannot take back what "
                    f"this run changes in them. {error.message} {error.hint}"
                )
            )
            await self._note(snapshots, error)

    async def _note(self, snapshots: Snapshots, error: CorralError) -> None:
        try:
            await snapshots.note(self.thread, self.run, error.message)
        except StorageError:
            return  # a full disk: the journal, next, says so and ends the run
