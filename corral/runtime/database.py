"""The database: one writer thread that groups commits, and a few readers.

All writes of a process go through one connection. Whatever has queued up while the last commit
ran is committed together, so a hundred agents cost little more than one. On SQLite a write that
must survive a power cut is flushed to the disk; the others survive a killed process and are
flushed with the next one that must (WAL, ``synchronous`` switched per batch).

A flush takes a thread, so that nobody else waits for the disk. A small write without one takes a
fifth of the time that a hop to that thread and back would: ``append`` makes it where it is asked
for, whenever the connection is free, and ``glance`` so reads a few rows.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from corral.errors import ConfigError, CorralError, StorageError
from corral.runtime import postgres
from corral.storage import T

BUSY_SECONDS = 30.0
"""How long a writer waits for another process's transaction before it gives up."""

_BATCH = 512
_READERS = 4
_APPENDS = 64
"""Writes that ``append`` makes one after another before the thread gets to copy the log back."""


@dataclass
class _Job:
    work: Callable[[Connection], Any]
    durable: bool
    done: Future[Any]


class Database:
    """A ``Storage`` over SQLAlchemy. Use ``await open_database(url)``, then ``aclose()``."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.is_sqlite = parse_url(url).get_backend_name() == "sqlite"
        self._writer = _Writer(url)
        self._reader_engine = _engine(url, begin="BEGIN")
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="corral-read")
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        # Held to queue a job or to append one; nothing is appended while a job has no result.
        self._turn = threading.RLock()
        self._unfinished = 0
        self._appended = 0
        self._thread = threading.Thread(target=self._write_loop, name="corral-write", daemon=True)
        self._thread.start()
        self._closed = False

    async def write(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """See ``corral.storage.Storage.write``."""
        result: T = await asyncio.wrap_future(self.submit(work, durable=durable))
        return result

    def submit(self, work: Callable[[Connection], T], *, durable: bool) -> Future[T]:
        """Queue a write without waiting for it; later writes are committed after it.

        It cannot be called back: cancelling who waits for it only stops the waiting.
        """
        with self._turn:
            return self._queue(work, durable=durable)

    def append(self, work: Callable[[Connection], T]) -> Future[T]:
        """Make a small write that needs no flush, as ``submit``, but at once if nobody else writes.

        The result then is there already. ``work`` runs in this thread: a few rows, no more.
        """
        with self._turn:
            if not self._may_append():
                return self._queue(work, durable=False)
            made: Future[T] = Future()
            try:
                made.set_result(self._at_once(work))
            except Exception as error:  # noqa: BLE001  whoever asks for the result gets it
                made.set_exception(error)
            return made

    async def appended(self, work: Callable[[Connection], T]) -> T:
        """``append``, and wait for what it gives."""
        with self._turn:
            if self._may_append():
                return self._at_once(work)
            queued = self._queue(work, durable=False)
        return await asyncio.wrap_future(queued)

    def _may_append(self) -> bool:
        has_begun = self._appended < _APPENDS and self._begin_at_once("BEGIN IMMEDIATE")
        self._appended += has_begun
        return has_begun

    def _begin_at_once(self, begin: str) -> bool:
        self._require_open()
        return not self._unfinished and self._writer.begin_at_once(begin)

    def _at_once(self, work: Callable[[Connection], T]) -> T:
        """Do the work in the transaction that has begun."""
        try:
            with self._writer.transaction(durable=False) as connection:
                return work(connection)
        except (SQLAlchemyError, UnicodeEncodeError) as error:
            raise storage_error(error, self.url) from error

    def _queue(self, work: Callable[[Connection], T], *, durable: bool) -> Future[T]:
        job = self._job(work, durable=durable)
        self._jobs.put(job)
        return job.done

    def _job(self, work: Callable[[Connection], Any], *, durable: bool) -> _Job:
        self._require_open()
        job = _Job(work, durable, Future())
        # A caller that is cancelled stops waiting; what it has asked for happens all the same,
        # before whatever it asks for next.
        job.done.set_running_or_notify_cancel()
        self._unfinished += 1
        return job

    async def glance(self, work: Callable[[Connection], T]) -> T:
        """``read`` a few rows that an index finds, in this thread if nobody writes."""
        with self._turn:
            if self._begin_at_once("BEGIN"):
                return self._at_once(work)
        return await self.read(work)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """See ``corral.storage.Storage.read``."""
        self._require_open()
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._readers, self._read, work)

    def _require_open(self) -> None:
        if self._closed:
            raise StorageError("The database is closed.")

    def _read(self, work: Callable[[Connection], T]) -> T:
        try:
            with self._reader_engine.connect() as connection:
                return work(connection)
        except SQLAlchemyError as error:
            raise storage_error(error, self.url) from error

    async def aclose(self) -> None:
        """Finish what is queued, then close. Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        self._jobs.put(None)
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)
        self._readers.shutdown()
        self._reader_engine.dispose()

    def _write_loop(self) -> None:
        closing = False
        while not closing:
            taken = [self._jobs.get()]
            while len(taken) < _BATCH and not self._jobs.empty():
                taken.append(self._jobs.get())
            closing = None in taken
            if batch := [job for job in taken if job is not None]:
                self._commit(batch)
        self._writer.close()

    def _commit(self, batch: list[_Job]) -> None:
        """One transaction for all. Where one fails, each gets a transaction of its own instead."""
        try:
            with self._writer.transaction(durable=any(job.durable for job in batch)) as connection:
                results = [_result(job, connection) for job in batch]
        except _JobError as failed:
            if len(batch) > 1:
                for job in batch:
                    self._commit([job])
            else:
                self._fail(batch, failed.error)
        except BaseException as error:  # noqa: BLE001  the thread lives on; each caller gets the error
            self._fail(batch, error)
        else:
            self._are_over(batch)
            for job, value in zip(batch, results, strict=True):
                job.done.set_result(value)

    def _fail(self, batch: list[_Job], error: BaseException) -> None:
        failure = storage_error(error, self.url)
        self._are_over(batch)
        for job in batch:
            job.done.set_exception(failure)

    def _are_over(self, batch: list[_Job]) -> None:
        """Before they are told so: what they do next may be to append."""
        with self._turn:
            self._unfinished -= len(batch)
            if threading.current_thread() is self._thread:
                self._appended = 0


class _Writer:
    """The connection that writes. Used by one thread at a time.

    On SQLite it is kept open, and its transactions are begun and ended by the driver itself: of
    a small write SQLAlchemy's own way took most of the time.
    """

    def __init__(self, url: str) -> None:
        self._engine = _engine(url, begin="BEGIN IMMEDIATE")
        self._is_sqlite = self._engine.dialect.name == "sqlite"
        self._patience = round(BUSY_SECONDS * 1000)
        self._kept: tuple[Connection, sqlite3.Connection] | None = None
        self._pragmas: dict[str, object] = {}

    @contextmanager
    def transaction(self, *, durable: bool) -> Iterator[Connection]:
        """One transaction, or what is left of one that ``begin_at_once`` has begun."""
        if not self._is_sqlite:
            with self._engine.begin() as connection:
                postgres.take_turn(connection, BUSY_SECONDS, durable=durable)
                yield connection
            return
        try:
            connection, driver = self._kept or self._open()
            if not driver.in_transaction:
                self._set(driver, "synchronous", "FULL" if durable else "NORMAL")
                self._set(driver, "busy_timeout", self._patience)
                self._set(driver, "wal_autocheckpoint", 1000)
                driver.execute("BEGIN IMMEDIATE")
            # No savepoints: a full disk undoes the whole transaction, savepoints and all.
            try:
                yield connection
                connection.commit()
                if driver.in_transaction:  # nothing in it went through SQLAlchemy
                    driver.execute("COMMIT")
            except BaseException:
                connection.rollback()
                if driver.in_transaction:
                    driver.execute("ROLLBACK")
                raise
        except sqlite3.Error as error:
            raise DBAPIError(None, None, error) from error

    def begin_at_once(self, begin: str) -> bool:
        """Begin a transaction that is not flushed, unless that means to wait for anything."""
        if self._kept is None:
            return False
        driver = self._kept[1]
        try:
            self._set(driver, "synchronous", "NORMAL")
            self._set(driver, "busy_timeout", 0)
            # Copying the log back into the database is flushed: that is left to the thread.
            self._set(driver, "wal_autocheckpoint", 0)
            driver.execute(begin)
        except sqlite3.Error:
            return False
        return True

    def _open(self) -> tuple[Connection, sqlite3.Connection]:
        connection = self._engine.connect()
        driver: Any = connection.connection.driver_connection
        self._kept = connection, driver
        return self._kept

    def _set(self, driver: sqlite3.Connection, pragma: str, value: object) -> None:
        if self._pragmas.get(pragma) != value:
            driver.execute(f"PRAGMA {pragma}={value}")
            self._pragmas[pragma] = value

    def close(self) -> None:
        """Give the connection back."""
        if self._kept is not None:
            self._kept[0].close()
        self._engine.dispose()


class _JobError(Exception):
    """A job raised ``error``, as opposed to the transaction around it."""

    def __init__(self, error: Exception) -> None:
        self.error = error


def _result(job: _Job, connection: Connection) -> Any:
    try:
        return job.work(connection)
    except Exception as error:
        raise _JobError(error) from error


def storage_error(error: BaseException, url: str) -> BaseException:
    """What a caller is told about an error of the database driver."""
    if isinstance(error, UnicodeEncodeError):
        return StorageError(
            f"A text cannot be stored: it is not valid Unicode ({error.reason}).",
            hint="Take the broken characters out of it and try again.",
        )
    if isinstance(error, CorralError) or not isinstance(error, SQLAlchemyError):
        return error
    text = str(error.orig if isinstance(error, DBAPIError) and error.orig else error)
    where = make_url(url).database or make_url(url).render_as_string(hide_password=True)
    for sign, message, hint in (*_KNOWN, *postgres.KNOWN):
        if sign in text.lower():
            return StorageError(f"{message.format(where=where)} ({text})", hint=hint)
    return StorageError(
        f"The database {where} could not be used: {text}",
        hint="Run `corral doctor`; what was stored is kept.",
    )


_RESTORE = "Move the file away and start again, or restore it from a backup."
_KNOWN = (
    (
        "database is locked",
        "The database {where} is locked by another process.",
        "Wait for the other Corral process, or stop it, and try again; nothing was lost.",
    ),
    (
        "disk is full",
        "There is no space left for the database {where}.",
        "Free some disk space and run `corral resume RUN`; what was stored is kept.",
    ),
    (
        "disk i/o error",
        "The disk under the database {where} does not answer.",
        "Check the disk and its free space; what was stored is kept.",
    ),
    ("malformed", "The database {where} is damaged.", _RESTORE),
    ("not a database", "The file {where} is not a Corral database.", _RESTORE),
    (
        "readonly",
        "The database {where} cannot be written.",
        "Check who owns the file and its folder, or set CORRAL_HOME to a folder of your own.",
    ),
    (
        "unable to open",
        "The database {where} cannot be opened.",
        "Check that its folder exists and is yours, or set CORRAL_HOME.",
    ),
)


def parse_url(url: str) -> URL:
    """The parts of a database's URL. Raises ``ConfigError``."""
    try:
        return make_url(url)
    except ArgumentError as error:
        raise _bad_url(error) from error


def _bad_url(error: Exception) -> ConfigError:
    return ConfigError(
        f"The database URL cannot be used: {error}",
        hint="Write sqlite:////absolute/path.db, or postgresql+psycopg://user@host/name "
        "(with the package psycopg installed).",
    )


def _engine(url: str, *, begin: str) -> Engine:
    parsed = parse_url(url)
    try:
        if parsed.get_backend_name() != "sqlite":
            return postgres.engine(parsed, pool_size=_READERS, reads=begin == "BEGIN")
        options = {"timeout": BUSY_SECONDS, "check_same_thread": False}
        engine = create_engine(parsed, connect_args=options, pool_size=_READERS)
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise _bad_url(error) from error

    @event.listens_for(engine, "connect")
    def _connect(driver: Any, _record: object) -> None:
        # The driver's own transaction handling is switched off: "begin" below starts one, so
        # that a writer takes its lock at once and never fails half way with "locked".
        driver.isolation_level = None
        driver.execute("PRAGMA journal_mode=WAL")
        driver.execute("PRAGMA foreign_keys=ON")
        driver.execute("PRAGMA secure_delete=ON")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        driver: Any = connection.connection.driver_connection
        if not driver.in_transaction:
            connection.exec_driver_sql(begin)

    return engine


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite database file."""
    return f"sqlite:///{path}"
