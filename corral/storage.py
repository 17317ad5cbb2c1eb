"""How a room reaches the database without knowing the runtime: two methods and shared metadata.

Work is a plain function of a SQLAlchemy connection. It runs in another thread, inside a
transaction that is committed before ``write`` returns. It touches nothing but the connection: when
the transaction that it shared is undone, it runs again in one of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from sqlalchemy import Connection, MetaData

T = TypeVar("T")

metadata = MetaData()
"""All tables of Corral, whichever room defines them; Alembic's migrations must match it."""


class Storage(Protocol):
    """The database, as rooms below the runtime see it."""

    async def write(self, work: Callable[[Connection], T], *, durable: bool = True) -> T:
        """Run ``work`` in a write transaction and return its result once it is committed.

        ``durable`` asks for a flush to the disk as well, so that it survives a power cut and
        not only a killed process. Raises ``StorageError``.
        """
        ...

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in a read transaction and return its result. Raises ``StorageError``."""
        ...
