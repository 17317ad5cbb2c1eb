"""The databases that the server offers, as its command line names them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

from corral.mcp_servers.tool import JsonObject

_SQLITE, _DUCKDB = b"SQLite format 3\0", b"DUCK"
_DUCKDB_AT = 8  # after a checksum; duckdb.org/docs, "Storage Versions and Format"
_LOCAL_PORT = 5432


class Database(NamedTuple):
    """One database. ``kind`` is empty until the file has been looked at.

    ``port`` is where the host's gateway listens inside of the sandbox, for PostgreSQL.
    """

    name: str
    kind: str = ""
    path: str = ""
    port: int = _LOCAL_PORT
    write: bool = False
    max_rows: int = 1000
    timeout: float = 30.0

    @property
    def engine(self) -> str:
        """``sqlite``, ``duckdb`` or ``postgres``; a file says it by its first bytes."""
        return self.kind or kind_of(Path(self.path))


class Configuration(NamedTuple):
    """All that the server is told: databases by name, and where their libraries are."""

    databases: dict[str, Database]
    packages: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The text after ``--config``."""
        data = [database._asdict() for database in self.databases.values()]
        return json.dumps({"databases": data, "packages": list(self.packages)})


def kind_of(path: Path) -> str:
    """What a file is by its first bytes; one that is empty or missing counts as SQLite."""
    try:
        with path.open("rb") as file:
            start = file.read(16)
    except OSError:
        return "sqlite"
    return "duckdb" if start[_DUCKDB_AT : _DUCKDB_AT + 4] == _DUCKDB else "sqlite"


def configuration_of(argv: list[str]) -> Configuration:
    """The configuration after ``--config``. Leaves with status 2 for what is none.

    ``--root`` is taken and not needed: the databases are named with their whole paths.
    """
    options = dict(zip(argv[::2], argv[1::2], strict=False))
    if len(argv) % 2 or options.keys() - {"--config", "--root"}:
        sys.stderr.write("usage: sql [--config JSON]\n")
        raise SystemExit(2)
    try:
        return _parsed(json.loads(options.get("--config", "{}")))
    except (ValueError, TypeError, AttributeError) as error:
        sys.stderr.write(f"sql: the configuration cannot be used: {error}\n")
        raise SystemExit(2) from error


def _parsed(data: JsonObject) -> Configuration:
    databases = [Database(**entry) for entry in data.get("databases", ())]
    named = {database.name: database for database in databases}
    return Configuration(named, tuple(data.get("packages", ())))
