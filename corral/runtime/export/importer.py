"""Import of an export: read as data, checked completely, then stored in one transaction.

A file may come from a stranger. Nothing that it names is imported, unpacked or executed; every
size is bounded; what was granted on its machine (a policy, limits) is not taken over. The file is
read twice: once to check all of it, and once more, checked again, while it is stored.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from sqlalchemy import Column, Connection, insert, select

from corral.errors import ConfigError
from corral.jsontypes import JsonObject, canonical
from corral.runtime.clock import now
from corral.runtime.database import Database
from corral.runtime.entries import Entry, Text, insert_entry
from corral.runtime.export import forms
from corral.runtime.export.jsonl import portable
from corral.runtime.export.reader import ExportReader
from corral.runtime.origin import imported_from
from corral.runtime.runs import STEP_OF_A_NEW_THREAD, new_thread_id
from corral.runtime.tables import approvals, checkpoints, runs, threads

T = TypeVar("T")


@dataclass(frozen=True)
class Source:
    """A file that can be read from its beginning again. ``name`` is what messages call it."""

    file: BinaryIO
    name: str

    def read(self) -> ExportReader:
        """Read it from its beginning."""
        self.file.seek(0)
        return ExportReader(self.file, self.name)


@dataclass(frozen=True)
class Imported:
    """What became of a file. ``new`` is false for one that had been imported before.

    ``id_in_file`` differs from ``run`` when that id was taken here.
    """

    run: str
    thread: str
    status: str
    effects: int
    scrubbed: bool
    new: bool
    id_in_file: str

    def to_json(self) -> JsonObject:
        """All fields as JSON."""
        return dict(self.__dict__)


async def import_run(
    database: Database,
    source: Source,
    workspace: Path,
    check_agent: Callable[[JsonObject], object],
) -> Imported:
    """Store the run of an export in a new thread that works in ``workspace``.

    ``check_agent`` raises ``ValueError`` for what describes no agent. Raises ``ConfigError`` that
    names the line that is wrong; nothing is stored then.
    """
    checked = await asyncio.to_thread(_check, source, check_agent)
    return await database.write(lambda c: _store(c, source, checked, str(workspace)))


@dataclass(frozen=True)
class _Checked:
    """What is known of a file that was read to its end."""

    thread: str
    header: forms.Header
    run: forms.Run
    sum: str
    effects: int
    checkpoint: JsonObject | None

    @property
    def origin(self) -> str:
        """See ``runs.origin``."""
        return imported_from(self.sum, scrubbed=self.header.scrubbed)


def _check(source: Source, check_agent: Callable[[JsonObject], object]) -> _Checked:
    reader = source.read()
    found: dict[str, Any] = {}
    state: list[forms.State | forms.Message] = []
    for line in reader:
        if isinstance(line, forms.Past | forms.Run) and line.spec.agent:
            _guarded(reader, "the agent", check_agent, _spec(line)["agent"])
        elif isinstance(line, forms.State | forms.Message):
            state.append(line)
        found[line.type] = line
    thread, checkpoint = new_thread_id(), None
    if state:
        from corral.runtime.export.state import checkpoint_of  # LangGraph: most runs need none

        checkpoint = _guarded(reader, "the thread's state", checkpoint_of, thread, state)
    return _Checked(
        thread, found["header"], found["run"], reader.sum, found["end"].effects, checkpoint
    )


def _guarded(reader: ExportReader, what: str, work: Callable[..., T], *given: object) -> T:
    try:
        return work(*given)
    except Exception as error:  # noqa: BLE001  libraries' own checks, on a stranger's data
        said = (str(error) or type(error).__name__).splitlines()[0]
        raise reader.problem(f"{what} cannot be understood: {said[:200]}.") from None


def _spec(line: forms.Origin) -> JsonObject:
    """The spec as it is stored; a scrubbed one still names its agent."""
    return portable({"agent": {"name": line.agent}, **line.spec.model_dump(exclude_unset=True)})


def _store(connection: Connection, source: Source, checked: _Checked, workspace: str) -> Imported:
    again = connection.execute(
        select(runs.c.id, runs.c.thread_id).where(runs.c.origin == checked.origin)
    ).first()
    if again is not None:
        return _imported(checked, again.id, again.thread_id, new=False)
    storing = _Storing(connection, checked, workspace)
    reader = source.read()
    for line in reader:
        storing.add(line)
    if reader.sum != checked.sum:
        raise ConfigError(f"{source.name} was changed while it was read.", hint="Try again.")
    return _imported(checked, storing.run, checked.thread, new=True)


def _imported(checked: _Checked, run: str, thread: str, *, new: bool) -> Imported:
    return Imported(
        run=run,
        thread=thread,
        status=checked.run.status,
        effects=checked.effects,
        scrubbed=checked.header.scrubbed,
        new=new,
        id_in_file=checked.run.id,
    )


class _Storing:
    """One import, line by line, inside of its transaction."""

    def __init__(self, connection: Connection, checked: _Checked, workspace: str) -> None:
        self._connection = connection
        self._checked = checked
        self.run = _free(connection, runs.c.id, checked.run.id)
        self._past: str | None = None
        self._thread(checked.run.title, workspace)

    def _thread(self, title: str, workspace: str) -> None:
        checked, time = self._checked, now()
        row = {"id": checked.thread, "title": title, "workspace": workspace}
        self._connection.execute(insert(threads), {**row, "created_at": time, "updated_at": time})
        if checked.checkpoint is not None:
            self._connection.execute(insert(checkpoints), checked.checkpoint)

    def add(self, line: forms.Line) -> None:
        """Store one line."""
        match line:
            case forms.Past():
                self._past = _free(self._connection, runs.c.id, line.id)
                # The whole of that run is not here, so it is one that was stopped.
                error = f"Only what the fork {self.run} shares of this run was imported."
                ending = {"status": "stopped", "output": "", "error": error}
                mark = f"{self._checked.origin} past"
                row = {**self._run(line), **ending, "id": self._past, "origin": mark}
                self._connection.execute(insert(runs), {**row, "finished_at": line.started_at})
            case forms.Run():
                self._connection.execute(insert(runs), {**self._run(line), **self._own(line)})
            case forms.Effect():
                self._effect(line)
            case forms.Approval():
                self._approval(line)
            case _:
                pass

    def _run(self, line: forms.Past | forms.Run) -> JsonObject:
        checkpoint = self._checked.checkpoint
        return {
            "thread_id": self._checked.thread,
            "agent": line.agent,
            "model": line.model,
            "spec": canonical(_spec(line)),
            "graph_version": line.graph_version,
            "input": line.prompt,
            "started_at": line.started_at,
            "code": None if line.code is None else canonical(line.code.model_dump()),
            "base_checkpoint": None if checkpoint is None else checkpoint["id"],
            "base_step": STEP_OF_A_NEW_THREAD if checkpoint is None else forms.BASE_STEP,
        }

    def _own(self, line: forms.Run) -> JsonObject:
        row: JsonObject = {
            "id": self.run,
            "origin": self._checked.origin,
            "status": line.status,
            "output": line.output,
            "error": line.error,
            "finished_at": line.finished_at,
            "tags": canonical(line.tags) if line.tags else None,
        }
        if line.fork is not None:
            row |= {"parent_run": self._past, "fork_at": line.fork.at}
            row["changes"] = canonical(line.fork.changes)
        return row

    def _effect(self, line: forms.Effect) -> None:
        entry = Entry(
            run=str(self._past) if line.past else self.run,
            seq=line.seq,
            path=line.path,
            kind=line.kind,
            name=line.name,
            status=line.status,
            digest=line.digest,
            request=line.request,
            result=line.result,
            attempts=line.attempts,
            started_at=line.started_at,
            duration_ms=line.duration_ms,
            ended=line.ended,
            asked=line.asked,
            seen=line.seen,
            spend=line.spend,
        )
        insert_entry(self._connection, entry, Text.of(entry.request))

    def _approval(self, line: forms.Approval) -> None:
        row = line.model_dump(exclude={"type", "id", "context"})
        context = line.context.model_dump(exclude_unset=True)
        row["context"] = canonical(context) if context else None
        for key in ("args", "input_schema", "always", "answer_args"):
            row[key] = None if row[key] is None else canonical(row[key])
        if row["status"] == "pending":  # nobody here can answer for the run's own machine
            row["status"] = "withdrawn"
        row["id"] = _free(self._connection, approvals.c.id, line.id)
        row |= {"run_id": self.run, "thread_id": self._checked.thread}
        self._connection.execute(insert(approvals), row)


def _free(connection: Connection, column: Column[Any], wanted: str) -> str:
    """The id of the file, or a new one when that is taken here."""
    while connection.execute(select(column).where(column == wanted)).first() is not None:
        wanted = f"{wanted[:2]}{secrets.token_hex(5)}"
    return wanted
