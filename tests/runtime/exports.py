"""Exports for tests: real ones, taken apart, changed and sealed again."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import corral
from corral.agents.exchange import export_file
from corral.agents.imports import import_file
from corral.runtime.config import Settings
from corral.runtime.export.importer import Imported
from corral.runtime.export.lines import LineWriter
from tests.runtime.agents import Ledger, scripted, turn

Records = list[dict[str, Any]]


async def exported(c: corral.Corral, run: str) -> bytes:
    """A run as JSON lines."""
    target = io.BytesIO()
    await export_file(c, run, target)
    return target.getvalue()


async def imported(c: corral.Corral, path: Path, content: bytes | None = None) -> Imported:
    """Import a file, which is first given ``content``."""
    if content is not None:
        path.write_bytes(content)
    return await import_file(c.records.database, path, c.settings.workspace)


def opened(content: bytes) -> Records:
    """The records of an export, without their sums."""
    records: Records = [json.loads(line) for line in content.splitlines()]
    for record in records:
        del record["sum"]
    return records


def sealed(records: Records) -> bytes:
    """Records as an export whose sums are right, whatever they hold."""
    target = io.BytesIO()
    writer = LineWriter(target)
    for record in records:
        writer.write(record)
    return target.getvalue()


async def rich_exports(settings: Settings) -> dict[str, bytes]:
    """Exports of every kind: a new thread, an older one with an approval, a fork, a sub-agent."""
    ledger = Ledger()

    def look(at: int) -> str:
        """Look at a number."""
        return f"seen {at}"

    async def approver(_question: corral.Approval) -> corral.Approved:
        return corral.Approved(args={"amount": 7})

    calls = [{"name": "functions__look", "args": {"at": n}} for n in range(2)]
    looking = scripted([{"text": "Let me see.", "tool_calls": calls}, turn("Seen.")], look)
    paying = scripted([turn("I pay.", pay={"amount": 5}), turn("Paid.")], *ledger.tools())
    helper = scripted([turn("Looking.", look={"at": 3}), turn("It is 3.")], look, name="helper")
    ask = {"name": "agents__helper", "args": {"task": "look at 3"}}
    boss = scripted([{"text": "Ask.", "tool_calls": [ask]}, turn("Three.")], agents=(helper,))
    rules = [{"tool": "functions__look", "action": "allow"}]
    own = corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )
    async with corral.open(own) as c:
        new = await c.run("Look at both.", corral.RunOptions(agent=looking))
        options = corral.RunOptions(agent=paying, thread=new.thread, approver=approver)
        older = await c.run("Now pay 5.", options)
        delegated = await c.run("Ask your helper.", corral.RunOptions(agent=boss))
        last = _last_model(await c.records.trace(older.run))
        again = scripted([turn("I pay."), turn("Paid.")], *ledger.tools())
        change = corral.Fork(at=last, result="All right.")
        fork = await c.fork(older.run, change, corral.RunOptions(agent=again))
        runs = {"new": new, "older": older, "fork": fork, "delegated": delegated}
        for name, result in runs.items():
            assert result.status == "completed", (name, result.error)
        return {name: await exported(c, result.run) for name, result in runs.items()}


def _last_model(effects: list[corral.EffectView]) -> int:
    return [effect.seq for effect in effects if effect.kind == "model"][-1]
