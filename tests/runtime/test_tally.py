"""What is kept of an account's journals: always what adding all of it up gives, and soon found."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, create_engine, delete, insert, select, update

from corral.policies.budgets import Account, Budget
from corral.runtime.budgets import tally
from corral.runtime.budgets.tally import Tally, tallied
from corral.runtime.tables import effects, runs, threads
from corral.storage import metadata

LIMITS = Budget(tokens=1, steps=1)
DAYS = ("2026-11-21", "2026-11-22")
ACCOUNTS = (
    Account("user", "", LIMITS, "user"),
    Account("thread", "t0", LIMITS, "thread"),
    *(Account("day", day, LIMITS, "day") for day in DAYS),
)
KINDS = ("model", "tool", "agent", "approval", "prepare")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    engine = create_engine(f"sqlite:///{tmp_path / 'tally.db'}")
    metadata.create_all(engine)
    with engine.begin() as connection:
        for number in range(2):
            thread = {"id": f"t{number}", "title": "", "workspace": "/", "created_at": ""}
            connection.execute(insert(threads).values(**thread, updated_at=""))
        yield connection
    engine.dispose()


class Journals:
    """Runs that begin, go on, end, are resumed and removed, as chance will have it."""

    def __init__(self, connection: Connection, seed: int) -> None:
        self.connection = connection
        self.chance = random.Random(seed)
        self.made = 0
        self.seconds = 0

    def now(self) -> str:
        self.seconds += self.chance.choice((0, 1))  # some things happen at the same time
        return self.at(self.seconds)

    def ago(self, _age: timedelta) -> str:
        """Clocks differ by up to two seconds here."""
        return self.at(self.seconds - 2)

    @staticmethod
    def at(seconds: int) -> str:
        begin = datetime.fromisoformat(f"{DAYS[1]}T00:00:00")
        return f"{(begin + timedelta(seconds=seconds - 60)).isoformat()}.000Z"

    def step(self) -> None:
        """One thing happens."""
        ways: tuple[Callable[[], object], ...] = (
            self.begin,
            *[self.ask] * 4,
            *[self.finish] * 3,
            self.rest,
            self.go_on,
            self.remove,
        )
        self.chance.choice(ways)()

    def begin(self, status: str = "running") -> str:
        self.made += 1
        run = f"r-{self.made}"
        row: dict[str, Any] = dict.fromkeys(
            ("agent", "model", "spec", "graph_version", "input", "output"), ""
        )
        origin = self.chance.choice((None, None, None, "elsewhere"))
        thread = self.chance.choice(("t0", "t1"))
        row |= {"id": run, "thread_id": thread, "status": status, "origin": origin}
        self.connection.execute(insert(runs).values(**row, started_at=self.now(), base_step=0))
        return run

    def ask(self) -> None:
        if run := self._any("running"):
            newest = select(effects.c.seq).where(effects.c.run_id == run)
            seq = len(self.connection.execute(newest).all()) + 1
            self.add(run, seq, self.chance.choice(KINDS))

    def add(self, run: str, seq: int, kind: str, status: str = "started") -> None:
        row = {"run_id": run, "seq": seq, "kind": kind, "name": f"{kind}{seq % 2}"}
        row |= {"path": f"{seq // 2}.node#{seq}", "status": status, "started_at": self.now()}
        row |= dict.fromkeys(("digest", "request"), "")
        spend = {"input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}
        self.connection.execute(insert(effects).values(**row, **spend, attempts=1))

    def finish(self) -> None:
        """Something ends, or is cut off and begun again."""
        run = self._any("running")
        going_on = (effects.c.run_id == run) & (effects.c.status != "finished")
        seqs = self.connection.execute(select(effects.c.seq).where(going_on)).scalars().all()
        if not seqs:
            return
        status = self.chance.choice(("finished", "finished", "cancelled", "failed", "started"))
        spent = {"input_tokens": self.chance.choice((0, 7)), "cost_usd": 0.25, "duration_ms": 3.0}
        mine = update(effects).where(going_on, effects.c.seq == self.chance.choice(seqs))
        again = effects.c.attempts + (status == "started")
        self.connection.execute(mine.values(status=status, attempts=again, **spent))

    def rest(self) -> None:
        status = self.chance.choice(("paused", "completed", "failed", "stopped"))
        at = None if status == "paused" else self.now()
        self._becomes(self._any("running"), status=status, finished_at=at)

    def go_on(self) -> None:
        run = self._any(self.chance.choice(("paused", "failed", "stopped")))
        self._becomes(run, status="running")

    def remove(self) -> None:
        run = self._any(self.chance.choice(("completed", "failed")))
        self.connection.execute(delete(effects).where(effects.c.run_id == run))
        self.connection.execute(delete(runs).where(runs.c.id == run))

    def _becomes(self, run: str | None, **values: object) -> None:
        self.connection.execute(update(runs).where(runs.c.id == run).values(**values))

    def _any(self, status: str) -> str | None:
        query = select(runs.c.id).where(runs.c.status == status).order_by(runs.c.id)
        found = self.connection.execute(query).scalars().all()
        return self.chance.choice(found) if found else None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_is_what_adding_up_gives(
    connection: Connection, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    journals = Journals(connection, seed)
    monkeypatch.setattr(tally, "ago", journals.ago)
    known = dict.fromkeys(ACCOUNTS_BY_KEY, Tally())
    for _ in range(100):
        for _ in range(journals.chance.randrange(4)):
            journals.step()
        for key, account in ACCOUNTS_BY_KEY.items():
            spent, known[key] = tallied(connection, account, known[key])
            assert spent == tallied(connection, account, Tally())[0], key


ACCOUNTS_BY_KEY = {account.key: account for account in ACCOUNTS}


def test_a_call_does_not_pay_for_what_was_spent_long_ago(connection: Connection) -> None:
    journals = Journals(connection, 1)
    own = journals.begin()

    def work() -> int:
        """How much SQLite does to look again."""
        known = {key: tallied(connection, one, Tally())[1] for key, one in ACCOUNTS_BY_KEY.items()}
        driver = connection.connection.driver_connection
        assert driver is not None
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        driver.set_progress_handler(count, 1)
        for key, account in ACCOUNTS_BY_KEY.items():
            tallied(connection, account, known[key])
        driver.set_progress_handler(None, 0)
        return steps

    before = work()
    old = journals.begin()
    for seq in range(1, 501):
        journals.add(own, seq, "model", "finished")
        journals.add(old, seq, "tool", "finished")
    journals._becomes(old, status="completed", finished_at=journals.now())
    assert work() < before + 200
