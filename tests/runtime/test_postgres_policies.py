"""Approvals, budgets, the vault and labels on a real PostgreSQL server, as on SQLite."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

import corral
from corral.errors import ConflictError
from corral.policies.budgets import Budget, Budgets
from corral.runtime.approvals.answers import Signed
from corral.runtime.approvals.settings import ApprovalSettings
from corral.runtime.budgets.spending import By, Filter, spending
from corral.runtime.clock import ago
from corral.runtime.config import Settings
from corral.runtime.migrate import open_database
from corral.runtime.redaction_settings import RedactionSettings
from corral.runtime.tables import approvals, reservations, spent_before, vault
from tests.runtime import (
    test_approvals_model,
    test_budgets_shared,
    test_provenance,
)
from tests.runtime.agents import Ledger, scripted, turn
from tests.runtime.postgres_server import Server, running
from tests.runtime.test_vault import CARD, PAY, Shop

pytestmark = pytest.mark.slow

pytest.importorskip("psycopg", reason="psycopg is not installed: run `make setup`")

SAME: list[Callable[[Settings], Awaitable[None]]] = [
    test_approvals_model.test_it_is_paid_for_by_the_run_and_named_in_what_was_spent,
    test_approvals_model.test_what_it_passes_on_waits_for_a_human_who_sees_what_it_said,
    test_budgets_shared.test_a_call_that_was_cut_off_is_paid_for_once,
    test_budgets_shared.test_a_reservation_of_a_killed_run_is_dead,
    test_budgets_shared.test_a_thread_has_a_budget_of_its_own,
    test_budgets_shared.test_cleaning_up_resets_no_cap,
    test_budgets_shared.test_what_a_fork_shares_counts_once_for_the_user_and_in_its_own_run,
    test_provenance.test_what_is_remembered_keeps_its_label,
]
"""What is tested on SQLite, and holds here in the same words."""


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running() as started:
        yield started


@pytest.fixture
def on_postgres(server: Server, settings: Settings) -> Settings:
    """Settings with a new database on the server."""
    return settings.model_copy(update={"database_url": server.new_database()})


@pytest.mark.parametrize("test", SAME, ids=lambda test: test.__name__)
async def test_it_is_the_same_here(
    on_postgres: Settings, test: Callable[[Settings], Awaitable[None]]
) -> None:
    await test(on_postgres)


def paying(ledger: Ledger, *amounts: int) -> corral.RunOptions:
    turns = [turn("Paying.", pay={"amount": amount}) for amount in amounts]
    return corral.RunOptions(agent=scripted([*turns, turn("Paid.")], *ledger.tools()))


async def test_an_answer_its_rule_and_its_end_are_kept(on_postgres: Settings) -> None:
    ledger = Ledger()
    async with corral.open(on_postgres) as c:
        paused = await c.run("Pay.", paying(ledger, 5, 5))
        (asked,) = paused.approvals
        assert asked.context["agents"] == [{"agent": "assistant", "task": "Pay."}]
        always = corral.Always(rule=1, scope="thread", until="24h")
        reply = corral.Approved(always=always)
        await c.records.answer(asked.id, reply, Signed("user:ann"))
        with pytest.raises(ConflictError, match="by user:ann"):
            await c.deny(asked.id, "no")
    async with corral.open(on_postgres) as c:
        done = await c.resume(paused.run, paying(ledger, 5, 5))
        assert (done.status, ledger.paid) == ("completed", [5, 5])
        (rule,) = await c.records.rules()
        assert (rule.scope, rule.scope_id, rule.approval) == ("thread", done.thread, asked.id)
        assert rule.until is not None
        again = await c.run("Pay.", paying(ledger, 5))
        assert again.status == "paused", "another thread is asked about"


async def test_a_question_is_denied_when_its_time_is_over(on_postgres: Settings) -> None:
    patient = on_postgres.model_copy(update={"approvals": ApprovalSettings(timeout="24h")})
    ledger = Ledger()
    async with corral.open(patient) as c:
        paused = await c.run("Pay.", paying(ledger, 5))
        over = update(approvals).values(expires_at=ago(timedelta(minutes=1)))
        await c.records.database.write(lambda k: k.execute(over))
        done = await c.resume(paused.run, paying(ledger, 5))
        assert (done.status, ledger.paid) == ("completed", [])
        (asked,) = await c.records.approvals(status=None)
        assert (asked.status, asked.answered_by) == ("denied", "timeout")


CHILD = """
import asyncio, sys
import corral
from corral.policies.budgets import Budget, Budgets
from corral.runtime.config import Settings
from tests.runtime.agents import scripted

async def main():
    home, workspace, url = sys.argv[1:]
    budgets = Budgets(day=Budget(tokens=1100, at_limit="answer"))
    settings = Settings(home=home, workspace=workspace, database_url=url, budgets=budgets)
    async with corral.open(settings) as c:
        print("ready", flush=True)
        sys.stdin.readline()
        for _ in range(3):
            talk = [{"text": "word " * 300, "delay": 0.001}]
            result = await c.run("Talk.", corral.RunOptions(agent=scripted(talk)))
            used = result.usage
            print(result.status, used.input_tokens + used.output_tokens, flush=True)

asyncio.run(main())
"""


async def test_two_processes_cannot_overrun_a_budget_together(on_postgres: Settings) -> None:
    await (await open_database(on_postgres.database)).aclose()
    where = (str(on_postgres.home), str(on_postgres.workspace), on_postgres.database)
    pipe = asyncio.subprocess.PIPE
    children = [
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", CHILD, *where), stdin=pipe, stdout=pipe
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert await asyncio.wait_for(child.stdout.readline(), 60) == b"ready\n"
    ended = [child.communicate(b"go\n") for child in children]
    outputs = await asyncio.wait_for(asyncio.gather(*ended), 100)
    told = [line.split() for out, _ in outputs for line in out.decode().splitlines()]
    assert len(told) == 6
    spent = sum(int(tokens) for _, tokens in told)
    assert 0 < spent <= 1100
    assert {status for status, _ in told} == {"completed", "stopped"}
    async with corral.open(on_postgres) as c:
        left = select(func.count()).select_from(reservations)
        assert await c.records.database.read(lambda k: k.execute(left).scalar()) == 0


async def test_who_spent_what_is_told_after_all_is_gone(on_postgres: Settings) -> None:
    own = on_postgres.model_copy(
        update={"budgets": Budgets(user=Budget(tokens=10**6, tool_calls=50, steps=90, usd=3))}
    )
    options = replace(paying(Ledger(), 5, 6), approver=_yes, tags=("rent",))
    async with corral.open(own) as c:
        first, second = await c.run("Pay.", options), await c.run("Pay.", options)
        assert (first.status, second.status) == ("completed", "completed")
        ways: tuple[By | None, ...] = (None, "agent", "model", "tool", "day", "tag")
        before = [await spending(c.records.database, by, Filter()) for by in ways]
        assert _told(own)[0]["tool_calls"] == 4
        await c.records.delete(first.thread)
        gone = await c.records.gc(corral.Retention(older_than=timedelta(0)))
        assert gone.runs == (second.run,)
        after = [await spending(c.records.database, by, Filter()) for by in ways[:-1]]
        assert after == before[:-1]
        (none,) = await spending(c.records.database, "tag", Filter())
        assert (none.key, none.tool_calls) == ("(none)", 4), "of threads that are gone no tag stays"
        rows = select(func.count()).select_from(spent_before)
        assert await c.records.database.read(lambda k: k.execute(rows).scalar())
        third = await c.run("Pay.", options)
        assert third.status == "completed"
    assert _told(own)[0]["tool_calls"] == 6


async def _yes(_approval: corral.Approval) -> corral.Approved:
    return corral.Approved()


def _told(settings: Settings) -> list[dict[str, object]]:
    """What ``corral budget --json`` prints."""
    env = {
        **os.environ,
        "CORRAL_HOME": str(settings.home),
        "CORRAL_DATABASE_URL": settings.database,
    }
    done = subprocess.run(
        [sys.executable, "-m", "corral.cli", "budget", "--json"],
        cwd=settings.workspace,
        env=env,
        check=True,
        capture_output=True,
        text=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


async def test_a_redacted_value_is_found_again_by_another_process(on_postgres: Settings) -> None:
    own = on_postgres.model_copy(
        update={"redaction": RedactionSettings(reveal_to=("functions__charge",))}
    )
    shop = Shop()
    options = corral.RunOptions(agent=shop.agent(PAY))
    async with corral.open(own) as c:
        paused = await c.run("Pay.", options)
        while paused.approvals and shop.charged == []:
            await c.approve(paused.approvals[0].id)
            async with corral.open(own) as other:
                paused = await other.resume(paused.run, options)
        rows = await c.records.database.read(lambda k: k.execute(select(vault)).all())
    assert shop.charged == [CARD]
    assert len(rows) == 1
    assert CARD.encode() not in bytes(rows[0].data)


async def test_an_answer_that_comes_twice_counts_once(on_postgres: Settings) -> None:
    ledger = Ledger()
    async with corral.open(on_postgres) as one, corral.open(on_postgres) as other:
        paused = await one.run("Pay.", paying(ledger, 5))
        (asked,) = paused.approvals
        tries = [c.approve(asked.id) for c in (one, other, one, other)]
        said = await asyncio.gather(*tries, return_exceptions=True)
        assert sum(isinstance(result, ConflictError) for result in said) == 3
        done = await other.resume(paused.run, paying(ledger, 5))
        assert (done.status, ledger.paid) == ("completed", [5])
