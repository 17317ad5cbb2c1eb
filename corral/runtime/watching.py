"""A run that may be going on, in this or another process, seen from the outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, select

from corral.runtime.entries import Parting, parting
from corral.runtime.lease import is_held
from corral.runtime.listing import effects_at, run_views
from corral.runtime.tables import effects, runs, threads
from corral.runtime.views import EffectView, RunView

_AT_ONCE = 500


@dataclass(frozen=True)
class Standing:
    """How a run stands.

    ``is_live`` says that a process runs it now; one with the status ``running`` that nobody runs
    was cut off. ``left`` says how a fork parted from its parent.
    """

    run: RunView
    is_live: bool
    left: Parting | None = None


def standing(connection: Connection, run: str) -> Standing:
    """How the run with this id stands."""
    (view,) = run_views(connection, select(runs).where(runs.c.id == run))
    lease = connection.execute(select(threads.c.lease).where(threads.c.id == view.thread)).scalar()
    is_live = view.status == "running" and is_held(lease)
    return Standing(view, is_live, parting(connection, run))


def changes(
    connection: Connection, run: str, after: int, known: Mapping[int, tuple[str, int]]
) -> list[EffectView]:
    """The entries that a run has made after the ``seq`` ``after``, and what changed before it.

    ``known`` are the entries that can change, by ``seq``: their ``status`` and ``attempts``.
    """
    mine = effects.c.run_id == run
    query = select(effects.c.seq, effects.c.path, effects.c.status, effects.c.attempts)
    found = list(connection.execute(query.where(mine, effects.c.seq > after)))
    earlier = sorted(known)
    for first in range(0, len(earlier), _AT_ONCE):
        some = earlier[first : first + _AT_ONCE]
        found += connection.execute(query.where(mine, effects.c.seq.in_(some)))
    paths = [row.path for row in found if known.get(row.seq) != (row.status, row.attempts)]
    return [
        effect
        for first in range(0, len(paths), _AT_ONCE)
        for effect in effects_at(connection, run, paths[first : first + _AT_ONCE])
    ]
