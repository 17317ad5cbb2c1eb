"""Starting runs so that a call that is made twice does not work twice.

A client whose call has timed out makes it again, and so does a model that has lost an answer. So
equal calls are one run, while it goes on and for some time after; a ``key`` says otherwise.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

from corral.agents.hosting.contract import ENDED, Order, Report, Runs
from corral.jsontypes import Json, digest

SAME: Final = timedelta(minutes=2)
"""How long after its end a run is what an equal call gets."""

_LOOKED_AT = 50
"""How many of a client's newest runs are looked through for an equal one."""


async def begun(runs: Runs, owner: str, order: Order) -> tuple[Report, tuple[str, ...]]:
    """The run of an order, and what is to be said of it: begun now, or by an equal call before."""
    what = [order.agent, order.prompt, order.thread, order.tool, order.args]
    return await _once(
        runs, owner, what, order.key, lambda key: runs.start(owner, replace(order, key=key))
    )


async def sent(
    runs: Runs, owner: str, run: str, message: str, key: str | None
) -> tuple[Report, tuple[str, ...]]:
    """The run in which a message is answered, likewise."""
    what = ["send", run, message]
    return await _once(runs, owner, what, key, lambda made: runs.send(owner, run, message, made))


async def _once(
    runs: Runs,
    owner: str,
    what: Json,
    key: str | None,
    start: Callable[[str], Awaitable[Report]],
) -> tuple[Report, tuple[str, ...]]:
    same = digest(what)[:32]
    if key is not None:
        return await start(f"{key}/{same}"), ()
    before = next(
        (
            report
            for report in await runs.listing(owner, _LOOKED_AT)
            if (report.key or "").startswith(f"{_BY_CONTENT}{same}")
        ),
        None,
    )
    if before is not None and _still_counts(before):
        return before, (_note(before),)
    # Two equal calls at once have seen the same runs, so that they make the same key.
    return await start(f"{_BY_CONTENT}{same}/{before.run if before else ''}"), ()


_BY_CONTENT = "="


def _still_counts(report: Report) -> bool:
    if report.status not in ENDED:
        return True
    if report.status != "completed":
        return False
    try:
        ended = datetime.fromisoformat(report.updated_at)
    except ValueError:
        return False
    return datetime.now(UTC) - (ended if ended.tzinfo else ended.replace(tzinfo=UTC)) < SAME


def _note(report: Report) -> str:
    return (
        f"The same was asked before: this is that run, {report.run}, and no other was begun. To "
        f"have it done once more, call again with a `key`."
    )
