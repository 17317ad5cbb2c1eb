"""What each kind of database can do for the server; one engine runs in one worker process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

from corral.mcp_servers.sql.values import Rows, Window
from corral.mcp_servers.tool import JsonObject, ToolFault

_LOCK_SECONDS = 5.0

Column = dict[str, str]
"""``name`` and ``type`` of one column of a result."""


class Statement(NamedTuple):
    """One statement and the values of its parameters, in their order."""

    sql: str
    parameters: Sequence[Any] = ()


class Result(NamedTuple):
    """What a statement gave. ``affected`` rows is ``None`` for what changes none."""

    columns: list[Column]
    rows: Rows
    affected: int | None = None


class Listing(NamedTuple):
    """Some tables as JSON, and how many there are in all."""

    tables: list[JsonObject]
    total: int


class Engine(Protocol):
    """One database. Each call stands alone: no settings, locks or temporary tables outlive it.

    Raises ``ToolFault`` in the database's own words.
    """

    def query(self, statement: Statement, window: Window, seconds: float) -> Result:
        """Run one statement that only reads; the database refuses any other."""
        ...

    def explain(self, statement: Statement, seconds: float) -> list[str]:
        """How a statement would be run, as lines. It is not run."""
        ...

    def execute(
        self, statements: Sequence[Statement], window: Window, seconds: float
    ) -> list[Result]:
        """Run statements in one transaction: all of them count, or none does."""
        ...

    def schema(self, table: str | None, window: Window, seconds: float) -> Listing:
        """Tables and views, or those of one name."""
        ...

    def interrupt(self) -> None:
        """Stop the statement under way; called from another thread."""
        ...


def lock_seconds(seconds: float) -> float:
    """How long a statement that may take so long waits for somebody else's lock."""
    return min(_LOCK_SECONDS, seconds / 2)


@contextmanager
def said_by(*errors: type[Exception]) -> Iterator[None]:
    """Turn a driver's errors into what the model is told."""
    try:
        yield
    except errors as error:
        raise ToolFault(words(error)) from error


def words(error: Exception) -> str:
    """A driver's message, of bounded length."""
    if isinstance(error, MemoryError):
        return "It needs more memory than a statement may use. Ask for less at a time."
    text = str(error).strip() or type(error).__name__
    return text if len(text) <= 2000 else f"{text[:2000]}…"
