"""The ledger of a tree of runs: what is about to be used is reserved first, and settled after.

So ten branches that ask at the same time cannot overrun together: what one has reserved is gone for
the others until it is known how much of it was used. Calls and steps are charged when they are
allowed; tokens and money are reserved.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from corral.policies.budgets import Account, Amount, Amounts
from corral.policies.prices import FREE, Price

LEAST_OUTPUT = 16
"""Fewer tokens than that are no answer: a model is not asked for less."""

_NOTHING = Amounts()


@dataclass(frozen=True)
class Need:
    """What something needs: ``certain`` in any case, and of output as much as there is left.

    ``output_tokens`` are wanted, ``LEAST_OUTPUT`` (or fewer, if fewer are wanted) are needed. That
    is of all ``answers`` together that may be made for it, and so is the input.
    """

    certain: Amounts
    output_tokens: int = 0
    price: Price = FREE
    answers: int = 1

    def times(self, answers: int) -> Need:
        """The same where so many answers may be made in place of one, at this price together."""
        if answers == 1:
            return self
        more = Amounts(input_tokens=self.certain.input_tokens * (answers - 1))
        output, price = self.output_tokens * answers, self.price.of_each(answers)
        return Need(self.certain + more, output, price, answers)

    @property
    def output_of_each(self) -> int:
        """Tokens of output that one answer may have; 0: as many as it likes."""
        return max(self.output_tokens // self.answers, min(self.output_tokens, 1))

    @property
    def least_output(self) -> int:
        """Tokens of output without which it is not worth it."""
        return min(self.output_tokens, LEAST_OUTPUT * self.answers)

    def with_output(self, tokens: int) -> Amounts:
        """All that is to be reserved when so much output is granted."""
        cost = self.price.at_most(self.certain.input_tokens, tokens)
        return self.certain + Amounts(output_tokens=tokens, nano_usd=cost)


@dataclass(frozen=True)
class Balance:
    """An account, what was spent of it, and what is reserved."""

    account: Account
    spent: Amounts
    reserved: Amounts = _NOTHING


@dataclass(frozen=True)
class Breach:
    """What does not fit: into which account, which limit of it, and how much of it was used.

    ``waits`` says that it would fit if what others have reserved were given back.
    """

    account: Account
    measure: str
    limit: Amount
    used: Amount
    needed: Amount
    waits: bool = False


def granted(balances: Sequence[Balance], need: Need) -> int | Breach:
    """How many tokens of output fit into all of the accounts, or what does not fit at all."""
    tokens, least = need.output_tokens, need.with_output(need.least_output)
    for balance in balances:
        found = _fits(balance, need, least)
        if isinstance(found, Breach):
            return replace(found, waits=_fits_alone(balances, need))
        tokens = min(tokens, found)
    return tokens


def _fits_alone(balances: Sequence[Balance], need: Need) -> bool:
    least = need.with_output(need.least_output)
    alone = (replace(balance, reserved=_NOTHING) for balance in balances)
    return not any(isinstance(_fits(balance, need, least), Breach) for balance in alone)


def _fits(balance: Balance, need: Need, least: Amounts) -> int | Breach:
    """How many tokens of output fit into one account, where ``least`` is needed in any case."""
    spent, reserved = balance.spent, balance.reserved
    tokens = need.output_tokens
    for measure, limit in balance.account.limits.items():
        taken, needed = spent.of(measure) + reserved.of(measure), least.of(measure)
        # Time is not reserved: when it is over, nothing begins any more.
        over = taken >= limit if measure.endswith("_seconds") else needed and taken + needed > limit
        if over:
            return Breach(balance.account, measure, limit, spent.of(measure), needed)
        if needed:
            tokens = min(tokens, _output(measure, limit - taken, need))
    return tokens


def _output(measure: str, left: Amount, need: Need) -> int:
    """How many tokens of output fit into what is left of one measure."""
    certain = need.certain.input_tokens
    match measure:
        case "output_tokens":
            return int(left)
        case "tokens":
            return int(left) - certain
        case "usd":
            paid = need.price.output_for(int(left), certain)
            return need.output_tokens if paid is None else paid
        case _:
            return need.output_tokens


@dataclass
class _Held:
    """What is known of one account."""

    spent: Amounts = _NOTHING
    reserved: dict[str, Amounts] = field(default_factory=dict)


class Ledger:
    """What was spent and what is reserved, by account. In memory: the caller knows the past.

    A reservation has a name and counts in every account that it was made in.
    """

    def __init__(self) -> None:
        self._held: dict[str, _Held] = {}
        self._where: dict[str, tuple[str, ...]] = {}

    def knows(self, account: Account) -> bool:
        """Whether the account was opened."""
        return account.key in self._held

    def open(self, account: Account, spent: Amounts) -> None:
        """Keep an account of which so much was spent already."""
        self._held[account.key] = _Held(spent)

    def clock(self, account: Account, wall_seconds: float) -> None:
        """Set how long an account that was opened has been in use."""
        held = self._held[account.key]
        held.spent = replace(held.spent, wall_seconds=wall_seconds)

    def balance(self, account: Account) -> Balance:
        """How an account that was opened stands."""
        held = self._held[account.key]
        return Balance(account, held.spent, sum(held.reserved.values(), start=_NOTHING))

    def reserve(self, name: str, accounts: Sequence[Account], need: Need) -> int | Breach:
        """Reserve what is needed in all of the accounts, or in none; the tokens of output granted.

        Calls and steps are charged at once, since whatever becomes of them they were made.
        """
        if not accounts:
            return need.output_tokens
        tokens = granted([self.balance(account) for account in accounts], need)
        if isinstance(tokens, Breach):
            return tokens
        counted, reserved = _parted(need.with_output(tokens))
        for account in accounts:
            held = self._held[account.key]
            held.spent += counted
            held.reserved[name] = reserved
        self._where[name] = tuple(account.key for account in accounts)
        return tokens

    def shrink(self, name: str, need: Need, tokens: int) -> None:
        """Give back what was reserved for more output than ``tokens``."""
        keys = self._where.get(name, ())
        reserved = _parted(need.with_output(tokens))[1] if keys else _NOTHING
        for key in keys:
            self._held[key].reserved[name] = reserved

    def settle(self, name: str, used: Amounts) -> None:
        """Charge what was really used, in place of what was reserved. Unknown names are ignored."""
        for key in self._where.pop(name, ()):
            held = self._held[key]
            held.reserved.pop(name)
            held.spent += used

    def release(self, name: str, counted: Amounts = _NOTHING) -> None:
        """Give back what was reserved, and the calls and steps that were ``counted`` for it."""
        self.settle(name, _negated(counted))

    def charge(self, keys: Sequence[str], used: Amounts) -> None:
        """Count what was used without having been reserved, in the accounts that are open."""
        for key in keys:
            if key in self._held:
                self._held[key].spent += used


def _parted(amounts: Amounts) -> tuple[Amounts, Amounts]:
    """What is charged at once, and what is reserved."""
    tokens = Amounts(
        input_tokens=amounts.input_tokens,
        output_tokens=amounts.output_tokens,
        nano_usd=amounts.nano_usd,
    )
    counted = Amounts(
        wall_seconds=amounts.wall_seconds,
        active_seconds=amounts.active_seconds,
        model_calls=amounts.model_calls,
        tool_calls=amounts.tool_calls,
        steps=amounts.steps,
        tools=amounts.tools,
    )
    return counted, tokens


def _negated(amounts: Amounts) -> Amounts:
    return Amounts(
        model_calls=-amounts.model_calls,
        tool_calls=-amounts.tool_calls,
        steps=-amounts.steps,
        tools={name: -count for name, count in amounts.tools.items()},
    )


def warnings(balance: Balance) -> Mapping[str, tuple[Amount, Amount]]:
    """The measures of which ``warn_at`` of the limit was used: how much, and the limit."""
    warn_at = balance.account.budget.warn_at
    found = {}
    for measure, limit in balance.account.limits.items():
        used = balance.spent.of(measure)
        if used and used >= warn_at * limit:
            found[measure] = (used, limit)
    return found
