"""Export of runs with all that a replay needs, and replays of exports without any database."""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from corral.agents.app import Corral
from corral.agents.app import open as open_corral
from corral.agents.imports import import_file
from corral.agents.options import RunOptions
from corral.agents.roster import Roster
from corral.runtime.config import Settings, load_settings
from corral.runtime.export.jsonl import Exported, Written, write_jsonl
from corral.runtime.export.state import state_lines
from corral.runtime.secrets import redactor_of
from corral.runtime.views import ReplayReport


async def export_file(
    corral: Corral, run: str, target: BinaryIO, options: RunOptions = RunOptions()
) -> Written:
    """Write a run as JSON lines, with all that a replay needs.

    Of ``options`` the agent is needed only when it has a graph of its own and its thread is older
    than the run.
    """
    view = await corral.records.run(run)
    state = await corral.state_before(view.run, options)
    what = Exported(view.run, tuple(state_lines(state)))
    return await write_jsonl(corral.records.database, what, target)


def replay_file(path: Path | str, options: RunOptions = RunOptions()) -> ReplayReport:
    """Replay an export and say whether it is identical; for tests, no database is left behind.

    Nothing is executed, and the agent is the recorded one. With ``options.agent`` an agent of the
    caller's takes its place: an ``Agent``, or the name of one that is configured in this folder.
    Raises ``NotFoundError``, and ``ConfigError`` for a file that was cut off or changed.
    """
    if isinstance(options.agent, str):
        settings = load_settings()
        agent = Roster(settings, redactor_of(settings)).agent(options.agent, options.model)
        options = replace(options, agent=agent)
    # In a thread of its own, because the caller may be in an event loop.
    with ThreadPoolExecutor(1, thread_name_prefix="corral-replay") as pool:
        return pool.submit(lambda: asyncio.run(_replayed(path, options))).result()


async def _replayed(path: Path | str, options: RunOptions) -> ReplayReport:
    with tempfile.TemporaryDirectory(prefix="corral-replay-") as folder:
        # Not load_settings: what a project configures is no part of what was recorded.
        settings = Settings(home=Path(folder), workspace=Path(folder), database_url="")
        async with open_corral(settings) as corral:
            database = corral.records.database
            imported = await import_file(database, path, settings.workspace)
            return await corral.replay(imported.run, options)
