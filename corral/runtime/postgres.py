"""What PostgreSQL needs to behave as SQLite does: one writer at a time, and any text at all."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL

_TURN = 0x636F7272616C
"""The advisory lock that writers take: "corral" in ASCII."""

_BEGIN = text(
    "SELECT set_config('synchronous_commit', :sync, true), "
    "set_config('lock_timeout', :patience, true), pg_advisory_xact_lock(:turn)"
)

_ESCAPE = "\ue000"  # of Unicode's private use: nobody is likely to write it
_NUL = f"{_ESCAPE}0"


def engine(url: URL, *, pool_size: int, reads: bool) -> Engine:
    """An engine for reading or for writing. Raises ``ImportError`` without the driver.

    What one piece of work reads is of one moment, as on SQLite. A writer has that by its turn.
    """
    level = "REPEATABLE READ" if reads else "READ COMMITTED"
    made = create_engine(url, pool_size=pool_size, pool_pre_ping=True, isolation_level=level)
    if made.dialect.driver == "psycopg":
        _adapt(made)
    return made


def take_turn(connection: Connection, patience: float, *, durable: bool) -> None:
    """Wait for the write lock, at most ``patience`` seconds; the transaction holds it to its end.

    What a transaction reads before it writes is then still true when it writes, as on SQLite. One
    that need not survive a power cut does not wait for the disk; a later one that must carries it.
    """
    milliseconds = f"{round(patience * 1000)}ms"
    sync = "on" if durable else "off"
    connection.execute(_BEGIN, {"turn": _TURN, "sync": sync, "patience": milliseconds})


def _adapt(made: Engine) -> None:
    """Store the character NUL, which PostgreSQL's texts cannot hold, as an escape."""
    from psycopg.types.string import StrDumperUnknown, TextLoader  # installed by who uses it

    class Dumper(StrDumperUnknown):
        def dump(self, obj: str) -> Any:
            return super().dump(_escaped(obj))

    class Loader(TextLoader):
        def load(self, data: Any) -> str | bytes:
            found = super().load(data)
            return _unescaped(found) if isinstance(found, str) else found

    @event.listens_for(made, "connect")
    def _connect(driver: Any, _record: object) -> None:
        driver.adapters.register_dumper(str, Dumper)
        for kind in ("text", "varchar"):
            driver.adapters.register_loader(kind, Loader)


def _escaped(value: str) -> str:
    if "\0" not in value and _ESCAPE not in value:
        return value
    return value.replace(_ESCAPE, _ESCAPE * 2).replace("\0", _NUL)


def _unescaped(value: str) -> str:
    if _ESCAPE not in value:
        return value
    return _ESCAPE.join(part.replace(_NUL, "\0") for part in value.split(_ESCAPE * 2))


_UNREACHABLE = (
    "The PostgreSQL server of the database {where} cannot be reached.",
    "Check that it is running, and the database's URL (CORRAL_DATABASE_URL); nothing was lost.",
)
_REFUSED = (
    "The PostgreSQL server does not let this user use the database {where}.",
    "Check the user and the password in the database's URL (CORRAL_DATABASE_URL).",
)
_FULL = (
    "There is no space left for the database {where}.",
    "Free some disk space on its server and run `corral resume RUN`; what was stored is kept.",
)
KNOWN = (
    ("connection refused", *_UNREACHABLE),
    ("could not translate host name", *_UNREACHABLE),
    ("no such file or directory", *_UNREACHABLE),
    ("server closed the connection", *_UNREACHABLE),
    ("terminating connection", *_UNREACHABLE),
    ("starting up", *_UNREACHABLE),
    ("shutting down", *_UNREACHABLE),
    ("authentication failed", *_REFUSED),
    ("no password supplied", *_REFUSED),
    ("permission denied", *_REFUSED),
    ("no space left", *_FULL),
    (
        'fatal:  database "',
        "There is no database {where} on the PostgreSQL server.",
        "Make it with `createdb`, or correct the database's URL (CORRAL_DATABASE_URL).",
    ),
    (
        "lock timeout",
        "The database {where} is locked by another process.",
        "Wait for the other Corral process, or stop it, and try again; nothing was lost.",
    ),
)
"""Signs in PostgreSQL's messages, what they mean, and what to do."""
