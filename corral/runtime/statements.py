"""Statements that are executed at every step of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ClauseElement, Connection
from sqlalchemy.exc import DBAPIError


class Statement:
    """A statement that is compiled once and then given to the driver as it is.

    SQLAlchemy's own way to the driver takes longer than SQLite takes for the row. The parameters
    are what any driver takes unchanged: texts, numbers, bytes, ``None``.
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, list[str] | None, dict[str, Any]]] = {}

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        """Execute it and return the driver's cursor. Raises as SQLAlchemy does."""
        dialect = connection.dialect
        if dialect.name not in self._compiled:
            compiled: Any = self._statement.compile(dialect=dialect)
            order = getattr(compiled, "positiontup", None)
            self._compiled[dialect.name] = (str(compiled), order, dict(compiled.params))
        sql, order, constants = self._compiled[dialect.name]
        values = {**constants, **parameters}
        cursor: Any = connection.connection.cursor()
        try:
            cursor.execute(sql, values if order is None else [values[name] for name in order])
        except dialect.loaded_dbapi.Error as error:
            raise DBAPIError(sql, None, error) from error
        return cursor
