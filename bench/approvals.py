"""Many questions at once: how long it takes to list and to answer them, against the bare SQL.

One real question, of a run that paused to write a file, is copied into so many runs of their own.
The baselines do the same on the same file with Python's ``sqlite3`` and nothing else: a SELECT of
all columns, and for each answer one flushed transaction that updates the question and its entry in
the journal. Corral in addition checks each answer, looks for what is overdue, tells whether the
file has changed, and gives records. Times are of a warm process; ``command`` is the whole command.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from contextlib import closing
from pathlib import Path

from corral.agents.app import open as open_corral
from corral.agents.options import RunOptions
from corral.agents.spec import Agent
from corral.runtime.config import Settings, load_settings
from corral.runtime.models.scripted import ScriptedModel
from corral.runtime.records import Records, open_records

TABLES = ("threads", "runs", "effects", "approvals")
KEYS = {"threads": ("id",), "runs": ("id", "thread_id"), "effects": ("run_id",)}


def write_file(path: str, content: str) -> str:
    """Write a file."""
    return f"{len(content)} characters to {path}"


async def pause(settings: Settings) -> None:
    """One run that waits for an answer."""
    args = {"path": "notes.txt", "content": "".join(f"line {n}\n" for n in range(40))}
    call = {"name": "functions__write_file", "args": args}
    model = ScriptedModel([{"tool_calls": [call]}, {"text": "Done."}])
    agent = Agent(functions=(write_file,), servers=(), chat_model=model, facts=0)
    async with open_corral(settings) as corral:
        result = await corral.run("Write it down.", RunOptions(agent=agent))
        assert result.status == "paused", result.error


def multiply(path: Path, count: int) -> None:
    """Let there be so many of the one run, each in a thread of its own."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.row_factory = sqlite3.Row
        for table in TABLES:
            rows = [dict(row) for row in connection.execute(f"SELECT * FROM {table}")]
            copies = [copied(table, row, number) for number in range(1, count) for row in rows]
            names = ", ".join(rows[0])
            marks = ", ".join(f":{name}" for name in rows[0])
            connection.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", copies)


def copied(table: str, row: dict[str, object], number: int) -> dict[str, object]:
    """A row of another run: its ids are those of the first, with a number."""
    keys = KEYS.get(table, ("id", "run_id", "thread_id"))
    return {name: f"{value}{number:05}" if name in keys else value for name, value in row.items()}


def bare_list(path: Path) -> int:
    """All open questions by SQL alone."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT * FROM approvals WHERE status = 'pending' ORDER BY created_at, id"
        return len(connection.execute(query).fetchall())


def bare_answers(path: Path, count: int) -> float:
    """Seconds for each of so many answers by SQL alone."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous=FULL")
        query = "SELECT id, run_id, path FROM approvals WHERE status = 'pending' LIMIT ?"
        rows = connection.execute(query, [count]).fetchall()
        began = time.perf_counter()
        for key, run, place in rows:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE approvals SET status = 'approved' WHERE id = ?", [key])
            connection.execute(
                "UPDATE effects SET status = 'finished', result = '{}' "
                "WHERE run_id = ? AND path = ?",
                [run, place],
            )
            connection.execute("COMMIT")
        return (time.perf_counter() - began) / len(rows)


async def answers(records: Records, count: int) -> float:
    """Seconds for each of so many answers, one after the other."""
    waiting = await records.approvals()
    began = time.perf_counter()
    for approval in waiting[:count]:
        await records.approve(approval.id)
    return (time.perf_counter() - began) / count


async def timed(work: Callable[[], Coroutine[None, None, object]], repeats: int) -> float:
    """The median of some times, in seconds."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        await work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def command(settings: Settings) -> float:
    """Seconds that ``corral approvals --json`` takes as a command."""
    env = {**os.environ, "CORRAL_HOME": str(settings.home)}
    argv = [sys.executable, "-m", "corral.cli", "approvals", "--json"]
    began = time.perf_counter()
    subprocess.run(argv, env=env, cwd=settings.workspace, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


async def measure(folder: Path, count: int, answered: int) -> list[tuple[str, float, float]]:
    """Rows of the table: what, Corral's seconds, the bare SQL's."""
    settings = load_settings({"home": folder / "home", "workspace": folder})
    database = settings.home / "corral.db"
    (folder / "notes.txt").write_text("before\n")
    await pause(settings)
    multiply(database, count)

    async def bare() -> object:
        return bare_list(database)

    plain = await timed(bare, 20)
    async with open_records(settings) as records:
        await records.approvals()
        listed = await timed(records.approvals, 20)
        whole = command(settings)
        each = await answers(records, answered)
    return [
        (f"list {count:,}", listed, plain),
        (f"list {count:,}, the whole command", whole, plain),
        ("answer one", each, bare_answers(database, answered)),
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Many questions at once.")
    parser.add_argument("--pending", type=int, default=1000, help="questions that wait")
    parser.add_argument("--answers", type=int, default=200, help="of them are answered")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measure(Path(folder), chosen.pending, chosen.answers))
    print(f"{'':<32}{'Corral':>12}{'bare SQL':>12}{'ratio':>8}")
    for what, mine, bare in rows:
        print(f"{what:<32}{mine * 1000:>9.2f} ms{bare * 1000:>9.2f} ms{mine / bare:>8.1f}")


if __name__ == "__main__":
    main()
