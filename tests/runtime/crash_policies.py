"""A run with a rule, shared budgets and a vault, carried on in a process that may be killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

import corral
from corral.policies.budgets import Budget, Budgets
from corral.runtime.budgets.spending import Filter, spending
from corral.runtime.tables import reservations, vault
from tests.runtime import crash_child
from tests.runtime.agents import turn
from tests.runtime.test_vault import CARD, Repeating

SCRIPT = [
    turn(find={}),
    turn(charge={"card": "{}", "amount": 1}),
    turn(charge={"card": "{}", "amount": 2}),
    turn("Charged {}."),
]


class Halting(Repeating):
    """A model that may be killed while it is asked: what was reserved for it is open then."""

    async def _stopping(self, request: Any) -> AsyncIterator[Any]:
        crash_child.boundaries.reach()
        async with aclosing(super().stream(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    def stream(self, request: Any) -> Any:
        """Answer, with a boundary before."""
        return self._stopping(request)


@dataclass(frozen=True)
class Shop:
    """A folder with its own home, and the log of what was really charged."""

    root: Path

    @property
    def log(self) -> Path:
        return self.root / "w" / "charged.log"

    def charged(self) -> list[str]:
        """What really happened, in order."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def settings(self) -> corral.Settings:
        """Every charge is asked about, the user's budget is shared, and charging needs the card."""
        (self.root / "w").mkdir(parents=True, exist_ok=True)
        settings = corral.load_settings(
            {
                "home": self.root / "h",
                "workspace": self.root / "w",
                "redaction": {"reveal_to": ["functions__charge"]},
            }
        )
        budgets = Budgets(user=Budget(tokens=10**6), day=Budget(tokens=10**6, tool_calls=100))
        return settings.model_copy(update={"budgets": budgets})

    def options(self) -> corral.RunOptions:
        """The agent, with a log of its own for what cannot be taken back."""

        @corral.tool(read_only=True)
        def find() -> str:
            """Find the card."""
            return f"The card is {CARD}."

        def charge(card: str, amount: int) -> str:
            """Charge a card."""
            crash_child.boundaries.reach()
            with self.log.open("a") as log:
                log.write(f"{card} {amount}\n")
            crash_child.boundaries.reach()
            return f"charged {amount}"

        agent = corral.Agent(
            functions=(find, charge), servers=(), chat_model=Halting(SCRIPT), facts=0
        )
        return corral.RunOptions(agent=agent)


async def carry_on(shop: Shop) -> None:
    """Bring the run to its end from wherever it stands, with one "always" on the way."""
    options = shop.options()
    async with corral.open(shop.settings()) as c:
        found = await c.records.runs()
        if not found:
            await c.run("Pay.", options)
        while (run := await c.records.run("last")).status != "completed":
            for asked in await c.approvals():
                if asked.kind == "in_doubt" and f"{CARD} {asked.args['amount']}" in shop.charged():
                    await c.give(asked.id, f"charged {asked.args['amount']}")
                elif asked.kind == "in_doubt":
                    await c.approve(asked.id)
                else:
                    rule = {"tool": "functions__charge", "untrusted": True, "private": True}
                    await c.approve(asked.id, always=corral.Always(rule=rule, scope="thread"))
            await c.resume(run.run, options)


def child(root: Path, kill_at: int) -> None:
    """``carry_on`` in this process, which is killed at boundary ``kill_at`` (0: never)."""
    crash_child.count_boundaries(crash_child.Boundaries(kill_at))
    asyncio.run(carry_on(Shop(root)))


@dataclass(frozen=True)
class Left:
    """What is there at the end: what was charged, rules, answers, reservations, kept values."""

    charged: tuple[str, ...]
    rules: int
    always: int
    reserved: int
    kept: int
    calls: tuple[int, int]
    output: str


async def left(shop: Shop) -> Left:
    """What a scenario has left."""
    async with corral.open(shop.settings()) as c:
        database = c.records.database
        run = await c.records.run("last")
        assert (await c.replay(run.run, shop.options())).status == "identical"
        rules = await c.records.rules()
        asked = await c.records.approvals(status=None)
        assert all(approval.status != "pending" for approval in asked)
        (spent,) = await spending(database, None, Filter())
        is_open = reservations.c.state == "open"
        count = select(func.count())
        return Left(
            charged=tuple(shop.charged()),
            rules=len(rules),
            always=sum(approval.kind == "tool" for approval in asked),
            reserved=await database.read(
                lambda k: k.execute(count.select_from(reservations).where(is_open)).scalar_one()
            ),
            kept=await database.read(lambda k: k.execute(count.select_from(vault)).scalar_one()),
            calls=(spent.model_calls, spent.tool_calls),
            output=run.output,
        )
