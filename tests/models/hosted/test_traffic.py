"""Limits and turns: what may be asked when, over all calls of a process."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.runtime.models.contract import Chunk, FinalChunk, NoticeChunk
from corral.runtime.models.hosted.endpoint import Endpoint
from corral.runtime.models.hosted.settings import HostedSettings
from corral.runtime.models.hosted.traffic.breaker import Breaker
from corral.runtime.models.hosted.traffic.buckets import Bucket
from corral.runtime.models.hosted.traffic.headers import Allowance, allowances, wait_asked_for
from corral.runtime.models.hosted.traffic.lanes import Lane, Place, Traffic
from tests.models.wire.hosted import ASKED, serving
from tests.models.wire.server import Reply, shape

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def endpoint(model: str = "m", url: str = "http://127.0.0.1:1/v1") -> Endpoint:
    return Endpoint("openai", model, url, "", "KEY", official=False)


class Watch:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def waits(place: Place) -> float | None:
    """What a place that has to wait is told first."""
    async with aclosing(place.turns()) as turns:
        return await anext(turns)


async def goes(place: Place) -> bool:
    """Whether it is a place's turn at once."""
    async with aclosing(place.turns()) as turns:
        async for _ in turns:
            return False
    return True


# --- buckets


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 20_000)), max_size=40),
)
def test_a_bucket_never_gives_more_than_its_rate(
    minute: int, asked: list[tuple[float, int]]
) -> None:
    bucket = Bucket.of_a_minute(minute, 0.0)
    now, given_out = 0.0, 0.0
    for pause, amount in asked:
        now += pause
        now += bucket.wait(amount, now)
        bucket.take(min(amount, minute), now)
        given_out += min(amount, minute)
        assert given_out <= minute + now * minute / 60 + 1e-6 * (1 + now)


@given(st.floats(0.1, 100), st.floats(0, 200), st.floats(0, 200))
def test_after_its_wait_an_amount_is_there(rate: float, level: float, amount: float) -> None:
    bucket = Bucket(200.0, rate, level, 10.0)
    assert bucket.wait(amount, 10.0 + bucket.wait(amount, 10.0)) == pytest.approx(0.0, abs=1e-6)


# --- headers


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "17"}, 17.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 GMT"}, 30.0),
        (
            {
                "retry-after": "Sun, 22 Nov 2026 09:00:30 GMT",
                "date": "Sun, 22 Nov 2026 09:00:00 GMT",
            },
            30.0,
        ),
        ({"retry-after": "Sun, 22 Nov 2026 11:00:00 GMT"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "-3"}, None),
        (
            {
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-requests": "1m12.5s",
            },
            72.5,
        ),
        (
            {
                "anthropic-ratelimit-input-tokens-limit": "50000",
                "anthropic-ratelimit-input-tokens-remaining": "0",
                "anthropic-ratelimit-input-tokens-reset": "2026-11-22T12:00:20Z",
            },
            20.0,
        ),
        (
            {
                "x-ratelimit-limit-tokens": "60",
                "x-ratelimit-remaining-tokens": "1",
                "x-ratelimit-reset-tokens": "20ms",
            },
            None,
        ),
        ({}, None),
    ],
)
def test_what_a_server_asks_one_to_wait(headers: dict[str, str], seconds: float | None) -> None:
    assert wait_asked_for(headers, NOON) == seconds


@given(st.dictionaries(st.sampled_from(["retry-after", "date", "retry-after-ms"]), st.text()))
def test_no_header_is_an_error(headers: dict[str, str]) -> None:
    waited = wait_asked_for(headers, NOON)
    assert waited is None or waited >= 0


@given(st.text(alphabet="0123456789hms.", max_size=30))
def test_no_reset_is_an_error(text: str) -> None:
    names = ("limit", "remaining", "reset")
    values = ("60", "0", text)
    headers = {f"x-ratelimit-{n}-tokens": v for n, v in zip(names, values, strict=True)}
    assert all(one.reset >= 0 for one in allowances(headers, NOON).values())


def test_a_limit_that_is_told_fills_evenly_until_its_reset() -> None:
    bucket = Allowance(limit=100, remaining=40, reset=30.0).bucket(now=0.0)
    assert bucket.wait(40, 0.0) == 0.0
    assert bucket.wait(100, 0.0) == pytest.approx(30.0)
    assert bucket.wait(70, 0.0) == pytest.approx(15.0)


# --- the breaker


def test_after_a_rest_one_call_tries() -> None:
    breaker = Breaker()
    for _ in range(3):
        assert breaker.rest(0.0) is None
        breaker.begin()
        breaker.failed(0.0, most=3, seconds=30)
    assert breaker.rest(10.0) == 20.0
    assert breaker.rest(30.0) is None
    breaker.begin()
    assert breaker.rest(31.0) == 0.0
    breaker.left()
    assert breaker.rest(31.0) is None
    breaker.begin()
    breaker.succeeded()
    assert (breaker.rest(31.0), breaker.failures) == (None, 0)


# --- lanes


def lane(watch: Watch, **settings: Any) -> Lane:
    return Traffic(watch).lane(endpoint(), HostedSettings(**settings))


async def test_turns_are_given_in_the_order_of_coming_and_by_priority() -> None:
    way = lane(Watch(), concurrency=1)
    first = way.place(1, 0)
    assert await goes(first)
    later, urgent, last = way.place(1, 0), way.place(1, 5), way.place(1, 0)
    assert await waits(later) is None
    order = []
    for _ in range(3):
        first.give_back(None)
        [first] = [place for place in (urgent, later, last) if place.is_under_way]
        order.append(first)
    assert order == [urgent, later, last]


async def test_who_leaves_the_queue_gives_its_turn_away() -> None:
    way = lane(Watch(), concurrency=1)
    first, second, third = way.place(1, 0), way.place(1, 0), way.place(1, 0)
    assert await goes(first)
    second.give_back(None)
    first.give_back(None)
    assert (second.is_under_way, third.is_under_way) == (False, True)


async def test_the_users_rates_hold_over_all_models_of_an_account() -> None:
    watch = Watch()
    traffic = Traffic(watch)
    settings = HostedSettings(requests_per_minute=2, tokens_per_minute=600)
    ways = [traffic.lane(endpoint(name), settings) for name in ("a", "b")]
    assert await goes(ways[0].place(300, 0))
    second = ways[1].place(300, 0)
    assert await goes(second)
    third = ways[0].place(100, 0)
    assert await waits(third) == pytest.approx(30.0)
    watch.now += 30.0
    assert await goes(third)
    second.give_back(0)  # its 300 tokens were not used
    elsewhere = traffic.lane(endpoint("a", "http://127.0.0.1:2/v1"), settings)
    assert await goes(elsewhere.place(600, 0))


async def test_nobody_passes_a_large_call_that_waits_for_tokens() -> None:
    watch = Watch()
    way = lane(watch, tokens_per_minute=600)
    assert await goes(way.place(500, 0))
    large, small = way.place(10_000, 0), way.place(1, 0)
    assert await waits(small) == pytest.approx(50.0)
    watch.now += 50.0
    assert await goes(large)
    assert not await goes(small)


async def test_what_one_model_may_not_another_may() -> None:
    watch = Watch()
    traffic = Traffic(watch)
    full, free = (traffic.lane(endpoint(name), HostedSettings()) for name in ("a", "b"))
    full.close_for(20)
    held = full.place(1, 0)
    assert await waits(held) == pytest.approx(20.0)
    assert await goes(free.place(1, 0))
    watch.now += 20.0
    assert await goes(held)


async def test_limits_are_learnt_from_the_headers_of_an_answer() -> None:
    watch = Watch()
    way = lane(watch)
    way.hear(
        {
            "x-ratelimit-limit-requests": "10",
            "x-ratelimit-remaining-requests": "1",
            "x-ratelimit-reset-requests": "90s",
        }
    )
    assert await goes(way.place(1, 0))
    assert await waits(way.place(1, 0)) == pytest.approx(10.0)


async def test_event_loops_share_a_queue() -> None:
    way = lane(Watch(), concurrency=1)
    mine = way.place(1, 0)
    assert await goes(mine)
    queued = threading.Event()
    done: list[bool] = []

    async def elsewhere() -> None:
        place = way.place(1, 0)
        queued.set()
        async for _ in place.turns():
            pass
        done.append(place.is_under_way)
        place.give_back(None)

    thread = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    thread.start()
    await asyncio.to_thread(queued.wait, 30)
    assert done == []
    mine.give_back(None)
    await asyncio.to_thread(thread.join, 30)
    assert done == [True]
    assert await goes(way.place(1, 0))


async def test_a_loop_that_is_gone_holds_nobody_up() -> None:
    way = lane(Watch(), concurrency=1)
    mine = way.place(1, 0)
    assert await goes(mine)

    async def leave() -> None:
        way.place(1, 0)

    await asyncio.to_thread(lambda: asyncio.run(leave()))
    mine.give_back(None)
    assert await goes(way.place(1, 0))


# --- through a model


async def test_calls_wait_for_their_turn_and_say_so() -> None:
    held = Reply(shape("openai_text", lines=4).body, hold=True)
    async with serving("openai", held, shape("openai_text"), concurrency=1) as (model, server):
        first = cast("AsyncGenerator[Chunk, None]", model.stream(ASKED))
        await anext(first)
        second = cast("AsyncGenerator[Chunk, None]", model.stream(ASKED))
        assert await anext(second) == NoticeChunk(f"{model.name}: waiting for another call to end.")
        await first.aclose()
        chunks = [chunk async for chunk in second]
    assert isinstance(chunks[-1], FinalChunk)
    assert len(server.requests) == 2
