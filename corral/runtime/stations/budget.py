"""The budget station: what a call may use is reserved before it is made, and settled after.

What only this run spends is kept in memory and told by its journal; what it shares with others is
reserved in the database. Where a call would fit if others gave back what they have reserved, it
waits for them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, replace

from corral.errors import OutOfTime
from corral.jsontypes import JsonObject
from corral.policies.budgets import Account, Amounts, in_words, shown
from corral.policies.ledger import Balance, Breach, Ledger, Need, warnings
from corral.policies.prices import FREE, Price, nano
from corral.runtime.budgets.prices import billed, unknown_price
from corral.runtime.budgets.shared import Call, SharedAccounts, call_name, spent_in
from corral.runtime.budgets.tally import AGENT_TOOL, CALLS
from corral.runtime.clock import milliseconds_between, now
from corral.runtime.effects import NOTHING, Effect, Outcome, Spend
from corral.runtime.entries import in_doubt
from corral.runtime.events import Event, Notice
from corral.runtime.journal import Journal
from corral.runtime.paths import task
from corral.runtime.stations.accounts import Accounts, AgentScope, in_json
from corral.runtime.stations.at_limit import AtLimit

DEFAULT_OUTPUT = 8192
"""Tokens that a model may answer with where a budget bounds it and nobody says less."""

MARGIN, NOTES = 1.25, 64
"""By how much the estimate of a model's input is raised: a share of it, and tokens for notes."""

RETRY = 0.5
"""Seconds between two looks at what other processes have reserved, and at the clock."""

_TOKENS = frozenset({"input_tokens", "output_tokens", "tokens"})


@dataclass(frozen=True)
class Grant:
    """What an effect may use.

    A model may give ``max_output_tokens`` (``None``: as many as it likes) and is told the
    ``notes``; after ``seconds`` it is broken off.
    """

    max_output_tokens: int | None = None
    notes: tuple[str, ...] = ()
    seconds: float | None = None


@dataclass(frozen=True)
class _Asking:
    """A call that wants to be made, and the accounts that pay for it."""

    effect: Effect
    call: Call
    scopes: list[AgentScope]
    own: list[Account]
    shared: list[Account]

    @property
    def measures(self) -> frozenset[str]:
        """What is limited of it."""
        return frozenset(m for one in (*self.own, *self.shared) for m in one.limits)

    @property
    def scope(self) -> str:
        """The path of the agent that asks."""
        return self.scopes[-1].path


@dataclass(frozen=True)
class _Held:
    """A call that was let through and is not over."""

    asking: _Asking
    need: Need


class Meter:
    """The budgets of one execution of a run."""

    def __init__(
        self,
        journal: Journal,
        accounts: Accounts,
        shared: SharedAccounts,
        at_limit: AtLimit,
        emit: Callable[[Event], None],
    ) -> None:
        self._journal = journal
        self._accounts = accounts
        self._terms = accounts.terms
        self._shared = shared
        self._at_limit = at_limit
        self._emit = emit
        self._ledger = Ledger()
        self._held: dict[str, _Held] = {}
        self._reports: dict[str, Callable[[], Spend]] = {}
        self._broken_off: dict[str, Spend] = {}
        self._lost: dict[str, tuple[str, Amounts]] = {}
        self._told: dict[str, list[str]] = {}
        self._steps: set[str] = set()
        self._began = now()
        self._changed = asyncio.Event()

    async def load(self) -> None:
        """Read what the run has spent and was told, and which limits were raised."""
        past = await self._shared.open()
        self._began, self._lost = past.began, past.lost
        await self._at_limit.load()
        for entry in self._journal.entries():
            if entry.kind == "model":
                self._steps.add(task(entry.path))
                told = (entry.result or {}).get("told", ())
                scope = self._accounts.scopes(entry.path)[-1].path
                self._told.setdefault(scope, []).extend(told)

    async def reserve(self, effect: Effect, path: str) -> Grant:
        """Reserve what the effect at ``path`` may use, as soon as it fits.

        Interrupts the graph to ask a human at a limit. Raises ``BudgetReached``.
        """
        if effect.kind not in CALLS:
            return Grant()
        while isinstance(found := await self.offer(effect, path), Breach):
            await self._at_limit.reached(found, path)
        await self._at_limit.passed(path)
        return found

    async def offer(self, effect: Effect, path: str) -> Grant | Breach:
        """Reserve what the effect may use, once others leave it room; or what does not fit."""
        while True:
            asking = self._asking(effect, path)
            await self._count_cut_off(asking)
            if not (asking.own or asking.shared):
                return Grant()
            found = await self._try(asking, self._need(asking))
            if not isinstance(found, Breach):
                self._held[path] = _Held(asking, found.need)
                return self._grant(asking, found)
            if not found.waits:
                return found
            await self._wait()

    async def used(self, path: str) -> list[JsonObject]:
        """How far the limits are used that hold for what is done at ``path``: see ``in_json``."""
        raised = self._at_limit.raised
        own = self._accounts.own(self._accounts.scopes(path), raised)
        for account in own:
            self._open(account)
        shared = await self._shared.balances(self._accounts.shared(raised))
        return in_json([*map(self._ledger.balance, own), *shared])

    def priced(self, effect: Effect, outcome: Outcome) -> Outcome:
        """The outcome with what it costs at the model's price; a model over others has said it."""
        if effect.kind != "model" or outcome.spend.answered_by:
            return outcome
        price = self._terms.price(effect.name)
        return outcome if price is None else replace(outcome, spend=billed(outcome.spend, price))

    def hear(self, path: str, spent: Callable[[], Spend]) -> None:
        """Keep what says how much the effect at ``path`` has used so far."""
        self._reports[path] = spent

    def broken_off(self, effect: Effect, path: str) -> Spend:
        """What the effect had used when it was broken off; ``release`` counts that."""
        report = self._reports.pop(path, None)
        if report is None:
            return NOTHING
        spent = self.priced(effect, Outcome({}, report())).spend
        self._broken_off[path] = spent
        return spent

    async def settle(self, path: str, spend: Spend, duration_ms: float) -> None:
        """Count what the effect has used, in place of what was reserved."""
        self._reports.pop(path, None)
        held = self._held.pop(path, None)
        if held is None:
            return
        seconds = 0.0 if held.asking.effect.kind == "agent" else duration_ms / 1000
        self._ledger.settle(path, _amounts(spend, seconds))
        await self._give_back(held)

    async def release(self, path: str) -> None:
        """Give back what was reserved and not settled: the effect was not made, or failed.

        What a model was asked is paid for, even if nobody waited for its answer.
        """
        held = self._held.pop(path, None)
        if held is None:
            return
        entry = self._journal.find(path)
        began = entry is not None and entry.attempts >= held.asking.call.attempt
        self._ledger.release(path, Amounts() if began else held.need.certain)
        spent = self._broken_off.pop(path, NOTHING)
        self._ledger.charge([account.key for account in held.asking.own], _amounts(spent))
        await self._give_back(held)

    def in_time(self, grant: Grant) -> AbstractAsyncContextManager[None]:
        """The body is broken off when the time is over. Raises ``OutOfTime``."""
        return nullcontext() if grant.seconds is None else _within(grant.seconds)

    def _asking(self, effect: Effect, path: str) -> _Asking:
        scopes = self._accounts.scopes(path)
        raised = self._at_limit.raised
        own = self._accounts.own(scopes, raised)
        for account in own:
            self._open(account)
        entry = self._journal.find(path)
        call = Call(
            path=path,
            agent="/".join(scopes[-1].names),
            model=effect.name if effect.kind == "model" else "",
            tool=_tool_name(effect),
            attempt=(entry.attempts if entry else 0) + 1,
        )
        return _Asking(effect, call, scopes, own, self._accounts.shared(raised))

    def _open(self, account: Account) -> None:
        """Begin to keep an account with what its journal tells, and set its clock."""
        scope = account.holder.partition(":")[2] if account.kind == "agent" else ""
        if not self._ledger.knows(account):
            entries = [e for e in self._journal.entries() if e.path.startswith(scope)]
            lost = (used for path, used in self._lost.values() if path.startswith(scope))
            self._ledger.open(account, sum(lost, start=spent_in(entries)))
        if account.budget.wall_seconds is not None:
            began = self._began if not scope else self._first(scope)
            self._ledger.clock(account, milliseconds_between(began, now()) / 1000)

    def _first(self, scope: str) -> str:
        """When a sub-agent began: a task that was resumed has begun once."""
        entries = self._journal.entries()
        inside = [entry.started_at for entry in entries if entry.path.startswith(scope)]
        return min(inside, default=now())

    def _need(self, asking: _Asking) -> Need:
        effect, call = asking.effect, asking.call
        if effect.kind != "model":
            again = effect.kind == "agent" and self._journal.find(call.path) is not None
            count = 0 if again else 1
            return Need(Amounts(tool_calls=count, tools={call.tool: count}))
        # What is asked about a question is no turn of an agent.
        steps = int(task(call.path) not in self._steps and not self._is_question(call.path))
        certain = Amounts(model_calls=1, steps=steps)
        price = self._price(effect.name, asking)
        bounded = _TOKENS if price.is_free else _TOKENS | {"usd"}
        if not asking.measures & bounded or effect.estimate is None:
            return Need(certain)
        wanted = effect.request["sampling"].get("max_tokens") or self._terms.max_output
        certain += Amounts(input_tokens=_estimate(effect))
        one = Need(certain, wanted or DEFAULT_OUTPUT, price)
        return one.times(self._terms.answers(effect.name))

    def _is_question(self, path: str) -> bool:
        entry = self._journal.find(path)
        return entry is not None and entry.kind == "approval"

    def _price(self, model: str, asking: _Asking) -> Price:
        price = self._terms.price(model)
        if price is None and "usd" in asking.measures:
            raise unknown_price(model)
        return price or FREE

    async def _try(self, asking: _Asking, need: Need) -> _Granted | Breach:
        path = asking.call.path
        tokens = self._ledger.reserve(path, asking.own, need)
        if isinstance(tokens, Breach):
            return tokens
        balances = [self._ledger.balance(account) for account in asking.own]
        granted = replace(need, output_tokens=tokens)
        if asking.shared:
            try:
                found, theirs = await self._shared.reserve(asking.shared, asking.call, granted)
            except BaseException:
                self._ledger.release(path, need.certain)
                raise
            if isinstance(found, Breach):
                self._ledger.release(path, need.certain)
                return found
            self._ledger.shrink(path, need, found)
            granted = replace(need, output_tokens=found)
            balances += theirs
        if need.certain.steps:
            self._steps.add(task(path))
        return _Granted(granted, balances)

    def _grant(self, asking: _Asking, granted: _Granted) -> Grant:
        if asking.effect.kind != "model":
            return Grant()
        return Grant(
            max_output_tokens=granted.need.output_of_each or None,
            notes=self._notes(asking.scope, granted.balances),
            seconds=_seconds_left(granted.balances),
        )

    def _notes(self, scope: str, balances: Iterable[Balance]) -> tuple[str, ...]:
        """What an agent is told of limits that are near, once of each; so is the user."""
        notes = []
        told = self._told.setdefault(scope, [])
        for balance in balances:
            for measure, (used, limit) in warnings(balance).items():
                what = f"of {balance.account.words} ({in_words(measure)})"
                if any(what in text for text in told):
                    continue
                amounts = f"{shown(measure, used)} of {shown(measure, limit)}"
                words = f"{used / limit:.0%} {what} are used: {amounts}."
                if not any(what in text for texts in self._told.values() for text in texts):
                    self._emit(Notice(words))
                notes.append(f"{words} Come to an end: say what you have found and what is left.")
                told.append(words)
        return tuple(notes)

    async def _count_cut_off(self, asking: _Asking) -> None:
        """What a model was asked is paid for, though a killed process got nothing of it."""
        entry = self._journal.find(asking.call.path)
        if entry is None or asking.effect.kind != "model" or not in_doubt(entry):
            return
        if entry.status == "cancelled" and not entry.spend.is_nothing:
            return  # the journal has it
        call = replace(asking.call, attempt=entry.attempts)
        name = call_name(self._journal.run, call)
        if name in self._lost or entry.run != self._journal.run:
            return
        tokens = _estimate(asking.effect)
        cost = self._price(asking.effect.name, asking).at_most(tokens, 0)
        used = Amounts(input_tokens=tokens, nano_usd=cost)
        self._lost[name] = (call.path, used)
        self._ledger.charge([account.key for account in asking.own], used)
        await self._shared.lose(call, used)

    async def _give_back(self, held: _Held) -> None:
        self._changed.set()
        if held.asking.shared:
            await self._shared.settle(held.asking.call)

    async def _wait(self) -> None:
        """Until somebody has given back what was reserved, or for a while."""
        self._changed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(RETRY):
                await self._changed.wait()


@dataclass(frozen=True)
class _Granted:
    """What a call may use, and how the accounts stand that pay for it."""

    need: Need
    balances: list[Balance]


def _tool_name(effect: Effect) -> str:
    match effect.kind:
        case "tool":
            return effect.name
        case "agent":
            return f"{AGENT_TOOL}{effect.name}"
        case _:
            return ""


def _amounts(spend: Spend, active_seconds: float = 0.0) -> Amounts:
    return Amounts(
        active_seconds=active_seconds,
        input_tokens=spend.input_tokens,
        output_tokens=spend.output_tokens,
        nano_usd=nano(spend.cost_usd),
    )


def _estimate(effect: Effect) -> int:
    """The tokens of input that are reserved for a model call."""
    return 0 if effect.estimate is None else int(effect.estimate() * MARGIN) + NOTES


def _seconds_left(balances: Sequence[Balance]) -> float | None:
    """How long a call may take; ``None``: as long as it likes."""
    limits = ((one, one.account.budget.wall_seconds) for one in balances)
    left = (limit - one.spent.wall_seconds for one, limit in limits if limit is not None)
    return min(left, default=None)


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    deadline = asyncio.timeout(seconds)
    try:
        async with deadline:
            yield
    except TimeoutError:
        if not deadline.expired():
            raise
        raise OutOfTime("The call was broken off: the time of its budget is over.") from None
