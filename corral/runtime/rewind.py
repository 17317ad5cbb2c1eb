"""Takes a thread back: its conversation, its workspace's files and its memories, together.

A rewind is a row before a file is touched. Conversation and memories go back in the transaction
that stores the row; then the files are put back, one by one, each whole or not at all; then the
row says that it is done. Cut off anywhere in between, the thread says so and ``finish`` does the
rest. Light on purpose, as ``records``: it imports no graph and no model.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Literal

from sqlalchemy import Connection

from corral.errors import CorralError, StorageError, UsageError
from corral.memory import changes
from corral.runtime import blobs, rewinding
from corral.runtime.approvals.answers import find_thread
from corral.runtime.database import Database
from corral.runtime.lease import Hold, holding, keep, release
from corral.runtime.rewind_report import (
    FileLeft,
    RewindReport,
    TurnView,
    file_changes,
    files_left,
    memory_changes,
    notes,
    turn,
)
from corral.runtime.rewinding import Rewound, Way
from corral.runtime.runs import workspace_of
from corral.runtime.sections import SnapshotConfig
from corral.runtime.snapshots.difference import Change, Difference, difference
from corral.runtime.snapshots.restore import Restorer
from corral.runtime.snapshots.store import Snapshot, Snapshots, load
from corral.runtime.snapshots.trees import Fetch, File, left_out, stored_trees

_BATCH = 32 * 2**20


@dataclass(frozen=True)
class _Held:
    """A thread that is being rewound: the lease on it, and its folder."""

    thread: str
    lease: str
    workspace: str


@dataclass(frozen=True)
class _Plan:
    """What is to be done to the files, and what is not touched."""

    difference: Difference
    left_alone: tuple[FileLeft, ...] = ()


class Rewinder:
    """Rewinds the threads of one database. ``config`` says what a snapshot holds.

    Threads are named by their id, a unique beginning of it, or ``last``. Every method raises
    ``NotFoundError`` for an unknown thread, ``UsageError`` for an unknown point, and
    ``ConflictError`` while the thread, or another one in its folder, is being run.
    """

    def __init__(self, database: Database, config: SnapshotConfig) -> None:
        self._database = database
        self._config = config

    async def turns(self, thread: str) -> list[TurnView]:
        """The runs of a thread that stand, oldest first: where one can rewind to."""

        def work(connection: Connection) -> list[TurnView]:
            standing = rewinding.points(connection, find_thread(connection, thread))
            return [turn(point) for point in standing]

        return await self._database.read(work)

    async def is_unfinished(self, thread: str) -> bool:
        """Whether a rewind of the thread was cut off before all of its files were in place."""
        return await self._unfinished(thread) is not None

    async def plan(self, thread: str, to: str, *, files: bool = True) -> RewindReport:
        """What ``rewind`` would do. Nothing is changed."""

        def work(connection: Connection) -> tuple[Way, RewindReport]:
            found = find_thread(connection, thread)
            way = rewinding.find_way(connection, found, to)
            shifts = changes.preview(connection, back={point.run for point in way.back})
            held = _Held(found, "", workspace_of(connection, found))
            report = replace(_report(held, way, files=files), memories=memory_changes(shifts))
            return way, report

        way, report = await self._database.read(work)
        if not files or way.files is None:
            return report
        peek = await self._snapshots(report.workspace).peek()
        plan = await self._database.read(
            lambda c: _compare(peek.over(stored_trees(c)), peek.root, way.files)
        )
        return _with_files(report, plan)

    async def rewind(self, thread: str, to: str, *, files: bool = True) -> RewindReport:
        """Take the thread back to after the run ``to``: its number, its id, or 0.

        A rewind of the thread that was cut off is finished first. Without ``files`` only the
        conversation and the memories go back. Raises ``StorageError`` when the files cannot be
        kept as they are now (nothing was changed then), or not all be written.
        """
        finished = await self.finish(thread)
        async with self._thread(thread) as held:
            try:
                way = await self._database.read(lambda c: rewinding.find_way(c, held.thread, to))
            except UsageError:
                if finished is not None and finished.action == "rewind":
                    return finished
                raise
            before, plan = None, _Plan(Difference())
            if files and way.files is not None:
                before = await self._keep(held)
                plan = await self._database.read(
                    lambda c, root=before.root: _compare(stored_trees(c), root, way.files)  # type: ignore[misc]  # bound now
                )
            rewound, shifts = await self._database.write(
                lambda c: rewinding.begin(c, held.thread, way, before.id if before else None)
            )
            failed = await self._put_back(rewound, held, plan.difference)
        report = _with_files(_report(held, way, files=files), plan)
        memories = memory_changes(shifts)
        return replace(report, memories=memories, failed=failed, rewind=rewound.id)

    async def plan_undo(self, thread: str) -> RewindReport:
        """What ``undo`` would do. Nothing is changed."""

        def work(connection: Connection) -> RewindReport:
            found = find_thread(connection, thread)
            rewound = rewinding.to_be_undone(connection, found)
            held = _Held(found, "", workspace_of(connection, found))
            way_back = _stored_difference(connection, replace(rewound, status="undoing"))
            shifts = changes.preview(connection, forward=rewound.id)
            report = _undo_report(connection, rewound, held, way_back)
            return replace(report, memories=memory_changes(shifts), rewind=None)

        return await self._database.read(work)

    async def undo(self, thread: str) -> RewindReport:
        """Bring forward what the newest rewind of the thread has taken back.

        A rewind that was cut off is undone as well. Raises ``ConflictError`` when there is none,
        or the thread has gone on since.
        """

        def bring_back(connection: Connection, held: _Held) -> tuple[Rewound, RewindReport]:
            rewound = rewinding.to_be_undone(connection, held.thread)
            undoing = replace(rewound, status="undoing")
            way_back = _stored_difference(connection, undoing)
            report = _undo_report(connection, rewound, held, way_back)
            if rewound.status != "undoing":
                shifts = rewinding.bring_back(connection, rewound)
                report = replace(report, memories=memory_changes(shifts))
            return undoing, report

        async with self._thread(thread) as held:
            rewound, report = await self._database.write(lambda c: bring_back(c, held))
            way_back = await self._database.read(lambda c: _stored_difference(c, rewound))
            failed = await self._put_back(rewound, held, way_back)
        return replace(report, failed=failed)

    async def finish(self, thread: str) -> RewindReport | None:
        """Put the files in place that a rewind was cut off from; ``None`` when none was."""
        if not await self.is_unfinished(thread):
            return None
        async with self._thread(thread) as held:
            rewound = await self._unfinished(held.thread)
            if rewound is None:
                return None  # another process has finished it meanwhile
            found = await self._database.read(lambda c: _stored_difference(c, rewound))
            report = await self._database.read(lambda c: _undo_report(c, rewound, held, found))
            failed = await self._put_back(rewound, held, found)
        action: Literal["rewind", "undo"] = "undo" if rewound.status == "undoing" else "rewind"
        if action == "rewind":
            report = replace(report, to=report.to - len(report.runs))
        note = "A rewind that was cut off has been finished."
        return replace(report, action=action, failed=failed, notes=(note,))

    async def _unfinished(self, thread: str) -> Rewound | None:
        return await self._database.read(lambda c: rewinding.unfinished(c, find_thread(c, thread)))

    def _snapshots(self, workspace: str) -> Snapshots:
        return Snapshots(self._database, workspace, self._config)

    @asynccontextmanager
    async def _thread(self, thread: str) -> AsyncIterator[_Held]:
        """Hold the thread, so that nobody runs it meanwhile."""
        found = await self._database.read(lambda c: find_thread(c, thread))
        with holding() as lease:
            folder = await self._database.write(lambda c: rewinding.take_lease(c, found, lease))
            alive = asyncio.create_task(keep(self._database, Hold(found, lease)))
            try:
                yield _Held(found, lease, folder)
            finally:
                alive.cancel()
                await self._database.write(lambda c: release(c, found, lease), durable=False)

    async def _keep(self, held: _Held) -> Snapshot:
        """Keep the files as they are now, for undoing."""
        try:
            kept = await self._snapshots(held.workspace).take(held.thread, None)
        except CorralError as error:
            raise type(error)(
                "The files cannot be kept as they are now, so nothing was rewound. "
                f"{error.message}",
                hint=f"{error.hint} Or rewind without the files: --keep-files.",
            ) from error
        assert kept is not None  # as for a run that was kept before
        return kept

    async def _put_back(
        self, rewound: Rewound, held: _Held, found: Difference
    ) -> tuple[FileLeft, ...]:
        """Change the files and store that it is done; what could not be changed, and why."""
        restorer = Restorer(held.workspace, f"corral-{rewound.id}")
        in_thread = asyncio.to_thread
        failed = await in_thread(restorer.remove, found.changes)
        failed |= await in_thread(restorer.make_folders, found.changes)
        for batch in _batches(found.changes):
            contents = await self._database.read(lambda c, b=batch: _contents(c, b))  # type: ignore[misc]  # bound now
            failed |= await in_thread(restorer.write, batch, contents)
        failed |= await in_thread(restorer.finish_folders, found.changes)
        await self._database.write(lambda c: rewinding.finish(c, rewound))
        return tuple(FileLeft(path, reason) for path, reason in sorted(failed.items()))


def _compare(fetch: Fetch, root: str | None, target: Snapshot | None) -> _Plan:
    """From what is there, by its outermost folder, to a snapshot."""
    assert root is not None
    assert target is not None
    assert target.root is not None
    found = difference(fetch, root, target.root)
    return _Plan(found, files_left(found.left_alone, dict(left_out(fetch, root))))


def _stored_difference(connection: Connection, rewound: Rewound) -> Difference:
    """What a rewind did, or has to do, to the files; when undoing, the other way round."""
    if rewound.before is None or rewound.target is None:
        return Difference()
    before, target = load(connection, rewound.before), load(connection, rewound.target)
    if before is None or before.root is None or target is None or target.root is None:
        return Difference()
    found = difference(stored_trees(connection), before.root, target.root)
    return found.reversed() if rewound.status == "undoing" else found


def _batches(found: list[Change]) -> Iterator[list[Change]]:
    """The changes that write something, in lots of which the contents fit into memory."""
    batch: list[Change] = []
    size = 0
    for change in found:
        batch.append(change)
        size += change.size
        if size > _BATCH:
            yield batch
            batch, size = [], 0
    yield batch


def _contents(connection: Connection, batch: list[Change]) -> dict[str, bytes]:
    """The contents of the files to be written, by digest, without those that are damaged."""
    wanted = {change.after.digest for change in batch if isinstance(change.after, File)}
    try:
        return blobs.get_all(connection, wanted)
    except StorageError:
        found = {}
        for digest in wanted:
            with suppress(StorageError):
                found[digest] = blobs.get(connection, digest)
        return found


def _report(held: _Held, way: Way, *, files: bool) -> RewindReport:
    return RewindReport(
        thread=held.thread,
        action="rewind",
        to=way.to.number if way.to else 0,
        runs=tuple(turn(point) for point in way.back),
        workspace=held.workspace,
        notes=notes(way, files=files),
    )


def _with_files(report: RewindReport, plan: _Plan) -> RewindReport:
    return replace(report, files=file_changes(plan.difference), left_alone=plan.left_alone)


def _undo_report(
    connection: Connection, rewound: Rewound, held: _Held, found: Difference
) -> RewindReport:
    back = rewinding.span(connection, rewound)
    standing = rewinding.points(connection, held.thread)
    return RewindReport(
        thread=held.thread,
        action="undo",
        to=len({point.run for point in (*standing, *back)}),
        runs=tuple(turn(point) for point in back),
        workspace=held.workspace,
        files=file_changes(found),
        left_alone=files_left(found.left_alone),
        rewind=rewound.id,
    )
