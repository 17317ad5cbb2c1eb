"""In any interleaving, what was spent and what is reserved never come to more than a limit."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from corral.policies.budgets import Account, Amounts, Budget
from corral.policies.ledger import Breach, Ledger, Need, granted
from corral.policies.prices import NANO, Price, Tokens, nano

PRICES = st.builds(
    Price,
    input=st.floats(0, 50),
    output=st.floats(0, 100),
    cached=st.none() | st.floats(0, 50),
    written=st.none() | st.floats(0, 60),
)
LIMITS = st.builds(
    Budget,
    input_tokens=st.none() | st.integers(0, 5000),
    output_tokens=st.none() | st.integers(0, 5000),
    tokens=st.none() | st.integers(0, 10_000),
    usd=st.none() | st.floats(0, 0.5),
    model_calls=st.none() | st.integers(0, 10),
    steps=st.none() | st.integers(0, 10),
)


@dataclass(frozen=True)
class Reserved:
    """A call that holds a reservation."""

    name: str
    input_tokens: int
    output_tokens: int
    price: Price
    counted: Amounts = field(default_factory=Amounts)


class Branches(RuleBasedStateMachine):
    """A run's branches and its sub-agents', over one ledger, in any order."""

    calls = Bundle("calls")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger()
        self.chains: list[list[Account]] = []
        self.number = 0

    @rule(run=LIMITS, agents=st.lists(LIMITS, min_size=1, max_size=3))
    def tree(self, run: Budget, agents: list[Budget]) -> None:
        """A run, and one sub-agent inside of another."""
        if self.chains:
            return
        chain = [Account("run", "r", run, "the run's")]
        for depth, budget in enumerate(agents):
            chain = [*chain, Account("agent", str(depth), budget, "the agent's")]
            self.chains.append(chain)
        for account in chain:
            self.ledger.open(account, Amounts())

    @rule(
        target=calls,
        depth=st.integers(0, 2),
        input_tokens=st.integers(0, 3000),
        wanted=st.integers(1, 8192),
        price=PRICES,
    )
    def reserve(self, depth: int, input_tokens: int, wanted: int, price: Price):  # type: ignore[no-untyped-def]  # what hypothesis makes of it is its own
        if not self.chains:
            return multiple()
        chain = self.chains[depth % len(self.chains)]
        certain = Amounts(input_tokens=input_tokens, model_calls=1, steps=1)
        need = Need(certain, wanted, price)
        self.number += 1
        tokens = self.ledger.reserve(str(self.number), chain, need)
        if isinstance(tokens, Breach):
            return multiple()
        assert 0 < tokens <= wanted
        return Reserved(str(self.number), input_tokens, tokens, price, certain)

    @rule(call=consumes(calls), share=st.floats(0, 1), cached=st.floats(0, 1))
    def settle(self, call: Reserved, share: float, cached: float) -> None:
        """The call took as much as was reserved, or less, and some of it from the cache."""
        used, got = int(call.input_tokens * share), int(call.output_tokens * share)
        usd = call.price.cost(Tokens(used, got, cached=int(used * cached)))
        amounts = Amounts(input_tokens=used, output_tokens=got, nano_usd=nano(usd))
        self.ledger.settle(call.name, amounts)

    @rule(call=consumes(calls))
    def release(self, call: Reserved) -> None:
        self.ledger.release(call.name, call.counted)

    @invariant()
    def nothing_is_overrun(self) -> None:
        for account in {one.key: one for chain in self.chains for one in chain}.values():
            balance = self.ledger.balance(account)
            used = balance.spent + balance.reserved
            for measure, limit in account.budget.limits().items():
                assert 0 <= used.of(measure) <= limit, measure


TestBranches = Branches.TestCase
TestBranches.settings = settings(deadline=None, max_examples=40)


@given(run=LIMITS, agent=LIMITS, used=st.integers(0, 3000), wanted=st.integers(1, 9000))
def test_a_sub_agent_gets_what_is_left_of_its_parents_or_less(
    run: Budget, agent: Budget, used: int, wanted: int
) -> None:
    ledger = Ledger()
    parent = Account("run", "r", run, "the run's")
    child = Account("agent", "a", agent, "the agent's")
    ledger.open(parent, Amounts(input_tokens=used))
    ledger.open(child, Amounts())
    need = Need(Amounts(input_tokens=100, model_calls=1), wanted)
    alone = granted([ledger.balance(parent)], need)
    both = granted([ledger.balance(parent), ledger.balance(child)], need)
    if isinstance(alone, Breach):
        assert isinstance(both, Breach)
    elif not isinstance(both, Breach):
        assert both <= alone


@example(price=Price(input=1e-9, output=1e-9), left=1, input_tokens=1)
@given(price=PRICES, left=st.integers(0, NANO), input_tokens=st.integers(0, 10**6))
def test_the_output_that_money_pays_for(price: Price, left: int, input_tokens: int) -> None:
    tokens = price.output_for(left, input_tokens)
    if tokens is None:
        assert price.output * 1000 * 10**9 <= left
    elif tokens >= 0:
        assert price.at_most(input_tokens, tokens) <= left
        # The input is rounded up to a whole nano-dollar, which pays for many tokens of a low price.
        assert price.at_most(input_tokens, tokens + 2) >= left
    else:
        assert price.at_most(input_tokens, 0) > left


@given(
    price=PRICES,
    answers=st.integers(1, 20),
    input_tokens=st.integers(0, 10**5),
    wanted=st.integers(0, 10**4),
)
def test_many_answers_need_what_one_at_their_price_together_does(
    price: Price, answers: int, input_tokens: int, wanted: int
) -> None:
    one = Need(Amounts(input_tokens=input_tokens, model_calls=1), wanted, price)
    several = one.times(answers)
    assert several.certain.model_calls == 1
    assert several.certain.input_tokens == input_tokens * answers
    assert several.output_of_each == wanted
    money = several.with_output(several.output_tokens).nano_usd
    assert abs(money - one.with_output(wanted).nano_usd) <= 1


@given(
    price=PRICES,
    input_tokens=st.integers(0, 10**6),
    output=st.integers(0, 10**5),
    cached=st.floats(0, 1),
)
def test_no_call_costs_more_than_was_reserved(
    price: Price, input_tokens: int, output: int, cached: float
) -> None:
    read = int(input_tokens * cached)
    tokens = Tokens(input_tokens, output, cached=read, written=(input_tokens - read) // 2)
    assert nano(price.cost(tokens)) <= price.at_most(input_tokens, output)
