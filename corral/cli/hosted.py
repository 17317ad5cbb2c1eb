"""Runs that a run host works on: what is done in a terminal reaches them there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.cli.context import current
from corral.cli.input_form import is_held
from corral.cli.waiting import is_waited_at
from corral.errors import ConflictError

if TYPE_CHECKING:
    from corral.runtime.records import Records
    from corral.runtime.views import Approval, RunView


async def who_goes_on(records: Records, approval: Approval) -> str:
    """Who goes on by itself with the run that asks, in words; empty: nobody that is there."""
    from corral.runtime.watching import standing

    run = approval.run
    if await goes_on(records, run):
        return "the run host goes on with it"
    if is_waited_at(current().settings().home, run):
        return "it goes on in the terminal that waits for the answer"
    if is_held(approval) and (await records.database.read(lambda c: standing(c, run))).is_live:
        return "the call that waits for it goes on"
    return ""


async def goes_on(records: Records, run: str) -> bool:
    """Whether a host that is there goes on with a run by itself, now or once it is answered."""
    from corral.agents.hosting.orders import going_on
    from corral.agents.hosting.place import is_served

    account = await records.database.read(lambda c: going_on(c, run))
    return account is not None and is_served(current().settings().home, account)


async def cancel(records: Records, run: str) -> RunView:
    """Give a run up, also one that a host executes: it is stopped there.

    Raises ``ConflictError`` for a run that has ended, or that another process runs.
    """
    from corral.agents.hosting import orders
    from corral.agents.hosting.stopping import until_stopped

    found = (await records.run(run)).run
    try:
        return await records.cancel(found)
    except ConflictError:
        if not await goes_on(records, found):
            raise
    await records.database.write(lambda c: orders.cancel(c, found))
    await until_stopped(records.database, found)
    return await records.run(found)
