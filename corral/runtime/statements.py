"""Statements that are executed at every step of a run, or in every run."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

from sqlalchemy import ClauseElement, Connection, Select
from sqlalchemy.exc import DBAPIError, IntegrityError, NoResultFound


class Statement:
    """A statement that is compiled once and then given to the driver as it is.

    SQLAlchemy's own way to the driver takes longer than SQLite takes for the row. The parameters
    are what any driver takes unchanged: texts, numbers, bytes, ``None``. ``columns`` are those that
    an INSERT or UPDATE sets, by parameters of their names, where it does not say so itself. There
    can be no ``in_``, which is not compiled ahead.
    """

    def __init__(self, statement: ClauseElement, columns: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, tuple[str, list[str] | None, dict[str, Any]]] = {}

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        """Execute it and return the driver's cursor. Raises as SQLAlchemy does."""
        dialect = connection.dialect
        if dialect.name not in self._compiled:
            compiled: Any = self._statement.compile(dialect=dialect, column_keys=self._columns)
            order = getattr(compiled, "positiontup", None)
            self._compiled[dialect.name] = (str(compiled), order, dict(compiled.params))
        sql, order, constants = self._compiled[dialect.name]
        values = {**constants, **parameters}
        cursor: Any = connection.connection.cursor()
        try:
            cursor.execute(sql, values if order is None else [values[name] for name in order])
        except dialect.loaded_dbapi.IntegrityError as error:
            raise IntegrityError(sql, None, error) from error
        except dialect.loaded_dbapi.Error as error:
            raise DBAPIError(sql, None, error) from error
        return cursor


class Query(Statement):
    """A SELECT, as a ``Statement``. Its rows have the names of its columns."""

    def __init__(self, query: Select[*tuple[Any, ...]]) -> None:
        super().__init__(query)
        self._query = query

    @cached_property
    def _row(self) -> Any:
        named: Any = namedtuple  # whose fields only the query knows
        return named("Row", self._query.selected_columns.keys())._make

    def all(self, connection: Connection, parameters: Mapping[str, Any]) -> list[Any]:
        """All rows."""
        return list(map(self._row, self.run(connection, parameters).fetchall()))

    def first(self, connection: Connection, parameters: Mapping[str, Any]) -> Any | None:
        """The first row; ``None``: there is none."""
        found = self.run(connection, parameters).fetchone()
        return None if found is None else self._row(found)

    def one(self, connection: Connection, parameters: Mapping[str, Any]) -> Any:
        """The row that is there. Raises ``NoResultFound`` when it is not."""
        found = self.first(connection, parameters)
        if found is None:
            raise NoResultFound("No row was found when one was required")
        return found
