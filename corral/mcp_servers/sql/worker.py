"""The process that runs statements: one database, one call at a time, a line of JSON for each.

Its server tells it to stop, and ends it if it does not; it ends itself when the server is gone.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from corral.mcp_servers.sql.databases import Configuration, Database, configuration_of
from corral.mcp_servers.sql.engine import Engine, Result, Statement, words
from corral.mcp_servers.sql.values import Window, described
from corral.mcp_servers.tool import JsonObject, ToolFault
from corral.mcp_servers.wire import Oversized, Wire

_ENGINES = {
    "sqlite": ("sqlite", "Sqlite", ""),
    "duckdb": ("duck", "Duck", "duckdb"),
    "postgres": ("postgres", "Postgres", "psycopg[binary]"),
}


class Task(NamedTuple):
    """One call: what to do, with which arguments, and in how many seconds it must be done."""

    do: str
    arguments: JsonObject
    seconds: float

    @property
    def window(self) -> Window:
        """The rows or tables that are wanted."""
        return Window(self.arguments["offset"], self.arguments["limit"])

    @property
    def statements(self) -> list[Statement]:
        """What to run."""
        return [Statement(sql, values) for sql, values in self.arguments["statements"]]


def engine_of(configuration: Configuration) -> Engine:
    """The engine of the one database. Raises ``ToolFault`` without its library."""
    (database,) = configuration.databases.values()
    module, name, package = _ENGINES[database.engine]
    sys.path += configuration.packages
    try:
        found = importlib.import_module(f"corral.mcp_servers.sql.{module}")
    except ImportError as error:
        raise ToolFault(
            f"The library for {database.engine} databases is not installed ({error}). "
            f"Install it beside Corral: pip install '{package}'."
        ) from error
    make: Callable[[Database], Engine] = getattr(found, name)
    return make(database)


def answer(engine: Engine, task: Task) -> JsonObject:
    """Do one task."""
    return _TASKS[task.do](engine, task)


def _query(engine: Engine, task: Task) -> JsonObject:
    return _shown(engine.query(task.statements[0], task.window, task.seconds))


def _explain(engine: Engine, task: Task) -> JsonObject:
    return {"plan": engine.explain(task.statements[0], task.seconds)}


def _execute(engine: Engine, task: Task) -> JsonObject:
    results = engine.execute(task.statements, task.window, task.seconds)
    return {"results": [{**_shown(one), "affected": one.affected} for one in results]}


def _schema(engine: Engine, task: Task) -> JsonObject:
    found = engine.schema(task.arguments["table"], task.window, task.seconds)
    return {"tables": described(found.tables), "total": found.total}


_TASKS: Mapping[str, Callable[[Engine, Task], JsonObject]] = {
    "query": _query,
    "explain": _explain,
    "execute": _execute,
    "schema": _schema,
}


def _shown(result: Result) -> JsonObject:
    rows, more, cut = result.rows
    return {"columns": result.columns, "rows": rows, "more": more, "cut": cut}


class _Worker:
    def __init__(self, wire: Wire, engine: Engine) -> None:
        self._wire, self._engine = wire, engine

    def receive(self, message: Any) -> None:
        if message["do"] == "stop":
            threading.Thread(target=self._engine.interrupt, daemon=True).start()
        else:
            task = Task(message["do"], message["arguments"], message["seconds"])
            threading.Thread(target=self._work, args=(task,), daemon=True).start()

    def _work(self, task: Task) -> None:
        reply: JsonObject
        try:
            reply = {"done": answer(self._engine, task)}
        except ToolFault as fault:
            reply = {"fault": str(fault)}
        except Exception as error:  # noqa: BLE001 -- the border to a library
            reply = {"fault": f"The database's library failed: {words(error)}"}
        self._wire.send(reply)


def main(argv: list[str]) -> int:
    """Serve the one database of ``--config`` until standard input ends."""
    wire = Wire()
    try:
        engine = engine_of(configuration_of(argv))
    except ToolFault as fault:
        wire.send({"fault": str(fault)})
        return 1
    worker = _Worker(wire, engine)
    wire.send({"ready": True})
    for line in wire.lines():
        if not isinstance(line, Oversized):
            worker.receive(json.loads(line))
    os._exit(0)  # whatever still runs: nobody waits for it
