"""Import of runs. Light: no graph engine is imported, unless the file holds a thread's state."""

from __future__ import annotations

from pathlib import Path

from corral.agents.spec import Agent
from corral.runtime.database import Database
from corral.runtime.export.files import reading
from corral.runtime.export.importer import Imported, import_run


async def import_file(database: Database, path: Path | str, workspace: Path) -> Imported:
    """Store the run of an export in a new thread, which works in ``workspace``.

    ``path`` may be ``-`` for standard input. Raises ``NotFoundError``, and ``ConfigError`` that
    names the line that is wrong: nothing is stored then.
    """
    with reading(path) as source:
        return await import_run(database, source, workspace, Agent.from_spec)
