from __future__ import annotations

import asyncio
from typing import Any

import pytest

from corral.errors import ModelError, StorageError
from corral.policies.prices import Price, Tier
from corral.runtime.models.combined.contest import ChainTerms
from corral.runtime.models.combined.fallback import Fallback
from corral.runtime.models.contract import FinalChunk, NoticeChunk, Usage, UsageChunk
from tests.models.combined.fakes import ASKED, Fake, answer, asking, shown, stream

DOWN = ModelError("a cannot be reached.", hint="Check the network.", kind="unreachable")
AT_ONCE = ChainTerms(hedge=0.001)


async def test_the_first_that_answers_is_who_answers() -> None:
    a, b = Fake("a", ["four"]), Fake("b", ["forty-two"])
    chunks = await stream(Fallback("a | b", [a, b]))
    assert shown(chunks) == "four"
    final = await answer(Fallback("a | b", [a, b]))
    assert (final.model, final.facts, final.usage) == ("a", {}, a.used)
    assert b.asked == []


@pytest.mark.parametrize("kind", ["failed", "unreachable", "rate_limited", "overloaded", "key"])
async def test_a_failure_goes_to_the_next_and_is_told(kind: str) -> None:
    down = ModelError("a does not answer.", kind=kind)  # type: ignore[arg-type]  # a literal
    a, b = Fake("a", [down]), Fake("b", ["42"])
    chunks = await stream(Fallback("a | b", [a, b]))
    final = chunks[-1]
    assert isinstance(final, FinalChunk)
    assert shown(chunks) == "42"
    assert NoticeChunk("a does not answer. b is asked instead.") in chunks
    assert final.model == "b"
    assert final.facts == {
        "fallbacks": [{"model": "a", "kind": kind, "error": "a does not answer."}]
    }


async def test_nothing_is_shown_twice() -> None:
    a, b = Fake("a", ["for", DOWN]), Fake("b", ["forty-two"])
    with pytest.raises(ModelError, match="had been shown") as raised:
        await stream(Fallback("a | b", [a, b]))
    assert b.asked == []
    assert raised.value.kind == "unreachable"


async def test_a_request_that_is_wrong_is_not_asked_again() -> None:
    wrong = ModelError("temperature is not a number", kind="request")
    b = Fake("b", ["42"])
    with pytest.raises(ModelError, match="temperature"):
        await stream(Fallback("a | b", [Fake("a", [wrong]), b]))
    assert b.asked == []


async def test_too_long_goes_to_one_that_can_read_more() -> None:
    long = ModelError("too long", kind="too_long")
    a = Fake("a", [long], context_window=1000)
    smaller, larger = Fake("b", ["b"], context_window=500), Fake("c", ["c"], context_window=2000)
    chain = Fallback("a | b | c", [a, smaller, larger])
    assert chain.context_window == 2000
    assert (await answer(chain)).model == "c"
    assert smaller.asked == []


async def test_all_failures_are_told_when_nobody_answers() -> None:
    chain = Fallback(
        "a | b", [Fake("a", [DOWN]), Fake("b", [ModelError("b is over its limit.", hint="Wait.")])]
    )
    with pytest.raises(ModelError) as raised:
        await stream(chain)
    assert "a: a cannot be reached." in raised.value.message
    assert "b: b is over its limit." in raised.value.message
    assert raised.value.hint == "Wait."


async def test_a_model_that_gives_up_by_itself_goes_to_the_next() -> None:
    gave_up: Any = asyncio.CancelledError()
    final = await answer(Fallback("a | b", [Fake("a", [gave_up]), Fake("b", ["Hi."])]))
    assert final.model == "b"
    assert "without saying so" in final.facts["fallbacks"][0]["error"]


async def test_who_failed_beside_a_hedge_is_not_paid_for() -> None:
    slow = asyncio.Event()
    first = Fake("a", [slow, "Hi."], price=Price(input=1, output=1))
    refused = Fake("b", [ModelError("no key", kind="key")], price=Price(input=9, output=9))
    chain = Fallback("a | b", [first, refused], ChainTerms(hedge=0.01))
    task = asyncio.create_task(answer(chain))
    await refused.begun.wait()
    slow.set()
    final = await task
    assert (final.model, final.usage.input_tokens) == ("a", 100)


async def test_an_answer_without_an_end_goes_to_the_next() -> None:
    class Endless(Fake):
        async def stream(self, request):  # type: ignore[no-untyped-def]  # as in Fake
            async for chunk in super().stream(request):
                if isinstance(chunk, NoticeChunk):
                    yield chunk

    final = await answer(Fallback("a | b", [Endless("a", ["x"]), Fake("b", ["42"])]))
    assert final.facts["fallbacks"][0]["error"].endswith("without saying so.")


async def test_what_is_no_models_failure_ends_it() -> None:
    b = Fake("b", ["42"])
    with pytest.raises(StorageError):
        await stream(Fallback("a | b", [Fake("a", [StorageError("disk")]), b]))
    assert b.asked == []


async def test_what_a_failed_attempt_has_used_is_counted_at_its_own_price() -> None:
    a = Fake("a", [Usage(50, 3), DOWN], price=Price(input=2.0, output=10.0))
    b = Fake("b", ["42"], price=Price(input=1.0, output=1.0))
    chunks = await stream(Fallback("a | b", [a, b]))
    final = await answer(Fallback("a | b", [a, b]))
    assert (final.usage.input_tokens, final.usage.output_tokens) == (150, 13)
    assert final.usage.cost_usd == pytest.approx((50 * 2 + 3 * 10 + 100 + 10) / 1_000_000)
    assert [chunk.usage.input_tokens for chunk in chunks if isinstance(chunk, UsageChunk)] == [50]


async def test_refusals_are_answers_unless_the_chain_says_otherwise() -> None:
    a, b = Fake("a", ["No."], stop_reason="refusal"), Fake("b", ["42"])
    assert (await answer(Fallback("a | b", [a, b]))).stop_reason == "refusal"
    final = await answer(Fallback("a | b", [a, b], ChainTerms(refusals=True)))
    assert final.model == "a", "text was shown"
    silent = Fake("a", [Usage(1, 0)], stop_reason="content_filter")
    final = await answer(Fallback("a | b", [silent, b], ChainTerms(refusals=True)))
    assert (final.model, final.facts["fallbacks"][0]["kind"]) == ("b", "refused")
    only = Fallback("a", [silent], ChainTerms(refusals=True))
    assert (await answer(only)).stop_reason == "content_filter"


async def test_leaving_stops_who_answers() -> None:
    never = asyncio.Event()
    a = Fake("a", ["for", never])
    chunks = Fallback("a | b", [a, Fake("b", ["42"])]).stream(ASKED)
    await anext(chunks)
    await chunks.aclose()  # type: ignore[attr-defined]  # a generator
    assert a.stopped == 1


async def test_a_deadline_is_for_all_of_them() -> None:
    a, b = Fake("a", [DOWN]), Fake("b", ["42"])
    await stream(Fallback("a | b", [a, b]), asking(deadline=30.0))
    assert 0 < (b.asked[0].deadline or 0) <= (a.asked[0].deadline or 0) <= 30


async def test_a_hedge_asks_the_next_one_too_and_stops_the_slower() -> None:
    silent = Fake("a", [asyncio.Event()], price=Price(input=1.0, output=1.0))
    b = Fake("b", ["42"])
    final = await answer(Fallback("x", [silent, b], AT_ONCE))
    assert (final.model, final.message.text) == ("b", "42")
    assert final.facts == {"hedged": {"first": "a", "second": "b", "after_ms": 1}}
    assert silent.stopped == 1
    assert final.usage.input_tokens == 200, "what the slower was asked is paid for"
    assert final.usage.cost_usd == pytest.approx(100 / 1_000_000)


async def test_a_hedge_is_for_one_that_has_said_nothing() -> None:
    go = asyncio.Event()
    a, b = Fake("a", ["for", go, "ty"]), Fake("b", ["42"])
    chunks = Fallback("x", [a, b], AT_ONCE).stream(ASKED)
    assert await anext(chunks)
    asyncio.get_running_loop().call_later(0.02, go.set)
    last = [chunk async for chunk in chunks][-1]
    assert isinstance(last, FinalChunk)
    assert last.message.text == "forty"
    assert b.asked == []


async def test_the_slow_one_may_still_be_first() -> None:
    go, never = asyncio.Event(), asyncio.Event()
    a, b = Fake("a", [go, "late"]), Fake("b", [never])
    asked = asyncio.create_task(answer(Fallback("x", [a, b], AT_ONCE)))
    await b.begun.wait()
    go.set()
    final = await asked
    assert (final.model, b.stopped) == ("a", 1)


async def test_a_failure_beside_a_hedge_waits_for_the_other() -> None:
    go, fail = asyncio.Event(), asyncio.Event()
    a, b, c = Fake("a", [fail, DOWN]), Fake("b", [go, "42"]), Fake("c", ["c"])
    asked = asyncio.create_task(answer(Fallback("x", [a, b, c], AT_ONCE)))
    await b.begun.wait()
    fail.set()
    await asyncio.sleep(0)
    go.set()
    final = await asked
    assert (final.model, c.asked) == ("b", [])
    assert final.facts["fallbacks"][0]["model"] == "a"


def test_money_is_reserved_for_the_dearest() -> None:
    cheap = Fake("a", price=Price(input=1.0, output=5.0))
    tiered = Fake(
        "b", price=Price(input=0.5, output=6.0, tiers=(Tier(above=1000, input=9.0, output=9.0),))
    )
    price = Fallback("x", [cheap, tiered]).price
    assert price is not None
    assert price.at_most(1000, 1000) == 7_000_000
    assert price.at_most(1001, 0) == 9_009_000
    assert Fallback("x", [cheap, Fake("c", price=None)]).price is None
    both = Fallback("x", [cheap, tiered], AT_ONCE).price
    assert both is not None
    assert both.at_most(1000, 1000) == 12_500_000
