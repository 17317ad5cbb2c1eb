"""Runs that a run host works on: what is done in a terminal reaches them there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.cli.context import current
from corral.errors import ConflictError

if TYPE_CHECKING:
    from corral.runtime.records import Records
    from corral.runtime.views import RunView


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
