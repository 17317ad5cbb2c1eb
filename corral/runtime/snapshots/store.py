"""Takes snapshots: what is new of a workspace goes into the database, and a row that names it.

Contents are stored in several transactions before the row. The row is stored only if all of them
are still there, and if the cache that saved reading mirrors a snapshot that is there: whatever
is swept out of the database meanwhile, a snapshot is whole or there is none.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.engine import make_url

from corral.errors import StorageError
from corral.runtime import blobs
from corral.runtime.clock import now
from corral.runtime.database import Database
from corral.runtime.sections import SnapshotConfig
from corral.runtime.snapshots.rules import Bounds, own_files
from corral.runtime.snapshots.scan import Cache, Found, Known, Scan, Scanner, Sink
from corral.runtime.snapshots.trees import Fetch, Tree
from corral.runtime.statements import Statement
from corral.runtime.tables import blobs as blobs_table
from corral.runtime.tables import snapshot_folders, snapshots

_BATCH_BYTES = 8 * 2**20
_BATCH_COUNT = 1000
_AT_ONCE = 500
_TRIES = 5


@dataclass(frozen=True)
class Snapshot:
    """A snapshot as stored. ``files`` counts what was seen, ``size`` is in bytes.

    Without a ``root`` there is none, and ``problem`` says why.
    """

    id: str
    run: str | None
    workspace: str
    root: str | None
    problem: str | None
    files: int
    size: int
    created_at: str


@dataclass(frozen=True)
class Peek:
    """A workspace as it is now, of which nothing was stored."""

    root: str
    trees: dict[str, Tree]

    def over(self, stored: Fetch) -> Fetch:
        """Trees of this reading, and those of the database."""
        return lambda digest: self.trees[digest] if digest in self.trees else stored(digest)


@dataclass(frozen=True)
class Mirror:
    """What the cache holds, and the snapshot that it mirrors (``None``: it is empty).

    ``kept`` says that the run in question has been kept before.
    """

    snapshot: str | None = None
    kept: bool = False
    trees: dict[str, str] = field(default_factory=dict)
    files: Cache = field(default_factory=dict)


class Snapshots:
    """Snapshots of one workspace."""

    def __init__(self, database: Database, workspace: str, config: SnapshotConfig) -> None:
        self._database = database
        self._workspace = workspace
        path = make_url(database.url).database if database.is_sqlite else None
        self._bounds = Bounds(config, own_files(workspace, path))

    async def take(self, thread: str, run: str | None, *, durable: bool = True) -> Snapshot | None:
        """Store what the workspace holds now; ``None`` if it has been kept for this run before.

        Raises ``UsageError`` when it holds too much, ``StorageError`` when it cannot be read or
        stored; then there is no snapshot.
        """
        for _ in range(_TRIES):
            mirror = await self._database.read(lambda c: self._load(c, run))
            if mirror.kept:
                return None
            writer = _Writer(self._database, mirror)
            scan = await self._scan(mirror.files, writer.add)
            row = self._row(thread, run, scan)
            taken = _Taken(row, mirror, scan, frozenset(writer.stored), tuple(writer.rest))
            if await self._database.write(taken.store, durable=durable):
                return _snapshot(row)
        raise StorageError(
            "The workspace is being kept by other runs at the same time.",
            hint="Try again when they are done.",
        )

    async def peek(self) -> Peek:
        """Read what the workspace holds now and store nothing. Raises as ``take``."""
        mirror = await self._database.read(lambda c: self._load(c, None))
        scan = await self._scan(mirror.files, lambda _digest, _content: None)
        trees = {found.digest: found.tree for found in scan.folders.values()}
        return Peek(scan.root, trees)

    async def note(self, thread: str, run: str, problem: str) -> None:
        """Store that there is no snapshot, and why."""
        row = {**self._row(thread, run, None), "problem": problem}
        await self._database.write(lambda c: c.execute(insert(snapshots), row), durable=False)

    async def _scan(self, cache: Cache, sink: Sink) -> Scan:
        """Read in a thread; whoever stops waiting stops the reading."""
        stop = threading.Event()
        scanner = Scanner(self._workspace, self._bounds, cache, stop)
        try:
            return await asyncio.to_thread(scanner.scan, sink)
        except asyncio.CancelledError:
            stop.set()
            raise
        except OSError as error:
            raise StorageError(
                f"The workspace {self._workspace} cannot be read: {error.strerror}.",
                hint="Check that the folder is there and yours.",
            ) from error

    def _row(self, thread: str, run: str | None, scan: Scan | None) -> dict[str, Any]:
        return {
            "id": f"s-{secrets.token_hex(5)}",
            "thread_id": thread,
            "run_id": run,
            "workspace": self._workspace,
            "root": scan.root if scan else None,
            "problem": None,
            "files": scan.files if scan else 0,
            "bytes": scan.size if scan else 0,
            "mirrored": int(scan is not None),
            "created_at": now(),
        }

    def _load(self, connection: Connection, run: str | None) -> Mirror:
        if run is not None and _OF_RUN.run(connection, {"run": run}).fetchone():
            return Mirror(kept=True)
        here = {"workspace": self._workspace}
        mirrored = _mirrored(connection, self._workspace)
        if mirrored is None:
            return Mirror()
        rows = _FOLDERS.run(connection, here).fetchall()
        return Mirror(
            mirrored,
            trees={folder: tree for folder, tree, _ in rows},
            files={
                json.loads(folder): {
                    name: Known._make(known) for name, known in json.loads(files).items()
                }
                for folder, _, files in rows
            },
        )


class _Writer:
    """Stores contents in batches while they are being read, from the reading thread."""

    def __init__(self, database: Database, mirror: Mirror) -> None:
        self._database = database
        self._there = set(mirror.trees.values())
        self._batch: dict[str, blobs.Packed] = {}
        self._bytes = 0
        self.stored: set[str] = set()

    @property
    def rest(self) -> list[blobs.Packed]:
        """The contents that are not stored yet."""
        return list(self._batch.values())

    def add(self, digest: str, content: bytes) -> None:
        """Take a content."""
        if digest in self._there or digest in self._batch:
            return
        packed = blobs.pack(content, digest)
        self._batch[digest] = packed
        self._bytes += len(packed.data)
        if self._bytes > _BATCH_BYTES or len(self._batch) >= _BATCH_COUNT:
            batch = self.rest
            self._database.submit(lambda c: blobs.put_all(c, batch), durable=False).result()
            self.stored.update(self._batch)
            self._there.update(self._batch)
            self._batch, self._bytes = {}, 0


@dataclass(frozen=True)
class _Taken:
    """A snapshot that has been read, and what of it is stored and what is not yet."""

    row: dict[str, Any]
    mirror: Mirror
    scan: Scan
    stored: frozenset[str]
    batch: tuple[blobs.Packed, ...]

    def store(self, connection: Connection) -> bool:
        """Store the rest and the row; ``False`` when something that it builds on has gone."""
        workspace = self.row["workspace"]
        if _mirrored(connection, workspace) != self.mirror.snapshot:
            return False
        if not all(_count(connection, some) == len(some) for some in _chunks(self.stored)):
            return False
        blobs.put_all(connection, self.batch)
        _UNMIRROR.run(connection, {"workspace": workspace})
        _INSERT.run(connection, self.row)
        self._remember(connection, workspace)
        return True

    def _remember(self, connection: Connection, workspace: str) -> None:
        """Bring the cache up to date: the rows of folders that are not as they were."""
        rows = [
            {"workspace": workspace, "folder": json.dumps(path), **_cached(found)}
            for path, found in self.scan.folders.items()
            if found.digest
            and (
                self.mirror.trees.get(json.dumps(path)) != found.digest
                or self.mirror.files.get(path) != found.known
            )
        ]
        table = snapshot_folders
        stale = {row["folder"] for row in rows}
        stale |= self.mirror.trees.keys() - {json.dumps(path) for path in self.scan.folders}
        mine = table.c.workspace == workspace
        if self.mirror.snapshot is None:
            connection.execute(delete(table).where(mine))
        for some in _chunks(stale):
            connection.execute(delete(table).where(mine, table.c.folder.in_(some)))
        if rows:
            connection.execute(insert(table), rows)


def _cached(found: Found) -> dict[str, str]:
    return {"tree": found.digest, "files": json.dumps(found.known)}


def _chunks(values: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(values)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def _count(connection: Connection, digests: list[str]) -> int:
    table = blobs_table
    query = select(func.count()).select_from(table).where(table.c.digest.in_(digests))
    return connection.execute(query).scalar_one()


def _mirrored(connection: Connection, workspace: str) -> str | None:
    found = _MIRRORED.run(connection, {"workspace": workspace}).fetchone()
    return None if found is None else str(found[0])


# Before the first change of every run: compiled once.
_HERE = snapshots.c.workspace == bindparam("workspace")
_OF_RUN = Statement(select(snapshots.c.id).where(snapshots.c.run_id == bindparam("run")))
_MIRRORED = Statement(select(snapshots.c.id).where(_HERE, snapshots.c.mirrored == 1))
_UNMIRROR = Statement(update(snapshots).where(_HERE, snapshots.c.mirrored == 1).values(mirrored=0))
_INSERT = Statement(insert(snapshots))
_FOLDERS_HERE: Any = select(
    snapshot_folders.c.folder, snapshot_folders.c.tree, snapshot_folders.c.files
).where(snapshot_folders.c.workspace == bindparam("workspace"))
_FOLDERS = Statement(_FOLDERS_HERE)


def of_run(connection: Connection, run: str) -> Snapshot | None:
    """The snapshot of before a run's first change, or the note that there is none."""
    query = select(snapshots).where(snapshots.c.run_id == run).order_by(snapshots.c.created_at)
    row = connection.execute(query.limit(1)).first()
    return None if row is None else _snapshot(row._mapping)


def load(connection: Connection, snapshot: str) -> Snapshot | None:
    """A snapshot by its id."""
    row = connection.execute(select(snapshots).where(snapshots.c.id == snapshot)).first()
    return None if row is None else _snapshot(row._mapping)


def _snapshot(row: Mapping[Any, Any]) -> Snapshot:
    return Snapshot(
        id=row["id"],
        run=row["run_id"],
        workspace=row["workspace"],
        root=row["root"],
        problem=row["problem"],
        files=row["files"],
        size=row["bytes"],
        created_at=row["created_at"],
    )
