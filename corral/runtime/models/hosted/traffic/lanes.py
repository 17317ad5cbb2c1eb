"""Who may call next: one queue for each account at a provider, shared by the whole process.

An account (an address and a key) has a number of calls at once and rates that the user sets; a
model there has limits that the provider tells, and a breaker. The queue is fair: the first in it
that its own model allows goes next, by priority and then in the order of coming, and nobody passes
one who waits for what the account has too little of. Several event loops may share it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count

from corral.jsontypes import digest
from corral.runtime.models.hosted.endpoint import Endpoint
from corral.runtime.models.hosted.settings import HostedSettings
from corral.runtime.models.hosted.traffic.breaker import Breaker
from corral.runtime.models.hosted.traffic.buckets import Bucket
from corral.runtime.models.hosted.traffic.headers import allowances

Clock = Callable[[], float]

_LONGEST_CLOSED = 86_400.0
"""Seconds after which a model is asked again, however long its server wants one to wait."""


@dataclass
class _Line:
    """One model at an account: what its provider told of its limits, and whether it rests."""

    breaker: Breaker = field(default_factory=Breaker)
    told: dict[str, Bucket] = field(default_factory=dict)
    closed_until: float = 0.0

    def wait(self, tokens: int, now: float) -> float:
        amounts = {"requests": 1, "tokens": tokens}
        waits = [bucket.wait(amounts[what], now) for what, bucket in self.told.items()]
        return max([self.closed_until - now, 0.0, *waits])

    def take(self, tokens: int, now: float) -> None:
        for what, bucket in self.told.items():
            bucket.take(1 if what == "requests" else tokens, now)


@dataclass
class _Account:
    """What all calls of an account share."""

    lines: dict[str, _Line] = field(default_factory=dict)
    queue: list[Place] = field(default_factory=list)
    under_way: int = 0
    requests: Bucket | None = None
    tokens: Bucket | None = None

    def adopt(self, settings: HostedSettings, now: float) -> None:
        """Keep to the user's rates, which may have changed."""
        self.requests = _bucket(self.requests, settings.requests_per_minute, now)
        self.tokens = _bucket(self.tokens, settings.tokens_per_minute, now)

    def wait(self, tokens: int, now: float) -> float:
        by_requests = self.requests.wait(1, now) if self.requests else 0.0
        return max(by_requests, self.tokens.wait(tokens, now) if self.tokens else 0.0)

    def take(self, tokens: int, now: float) -> None:
        if self.requests:
            self.requests.take(1, now)
        if self.tokens:
            self.tokens.take(tokens, now)


class Traffic:
    """The queues of all accounts. ``PROCESS`` is the one that models share by default."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        """``clock`` gives seconds, and never goes back."""
        self.clock = clock
        self.lock = threading.Lock()
        self.numbers = count()
        self._accounts: dict[str, _Account] = {}

    def lane(self, endpoint: Endpoint, settings: HostedSettings) -> Lane:
        """The way to one model."""
        with self.lock:
            key = digest([endpoint.base_url, endpoint.key])
            account = self._accounts.setdefault(key, _Account())
            line = account.lines.setdefault(endpoint.model, _Line())
            account.adopt(settings, self.clock())
        return Lane(self, account, line, settings)


PROCESS = Traffic()


class Lane:
    """The way to one model at one account. Safe to use from several threads and event loops."""

    def __init__(
        self, traffic: Traffic, account: _Account, line: _Line, settings: HostedSettings
    ) -> None:
        """Not for callers: use ``Traffic.lane``."""
        self._traffic = traffic
        self.account = account
        self.line = line
        self.settings = settings

    def place(self, tokens: int, priority: int) -> Place:
        """A place in the queue for a call of about so many tokens."""
        return Place(self, self._traffic, tokens, priority)

    def rest(self) -> float | None:
        """Seconds for which the model rests after failures in a row; ``None``: it may be asked."""
        with self._traffic.lock:
            return self.line.breaker.rest(self._traffic.clock())

    def hear(self, headers: Mapping[str, str]) -> None:
        """Learn from the headers of an answer what is left of the provider's limits."""
        told = allowances(headers, datetime.now(UTC))
        now = self._traffic.clock()
        with self._traffic.lock:
            self.line.told |= {what: one.bucket(now) for what, one in told.items()}

    def close_for(self, seconds: float) -> None:
        """Nobody is to ask this model for so long: it said that its limit is reached."""
        with self._traffic.lock:
            until = self._traffic.clock() + min(seconds, _LONGEST_CLOSED)
            self.line.closed_until = max(self.line.closed_until, until)

    def succeeded(self) -> None:
        """The endpoint answered."""
        with self._traffic.lock:
            self.line.breaker.succeeded()

    def failed(self) -> None:
        """The endpoint failed, and not for anything in the request."""
        with self._traffic.lock:
            self.line.breaker.failed(
                self._traffic.clock(),
                most=self.settings.breaker_failures,
                seconds=self.settings.breaker_seconds,
            )


class Place:
    """One call's place: first in the queue, then under way, until it is given back."""

    def __init__(self, lane: Lane, traffic: Traffic, tokens: int, priority: int) -> None:
        """Not for callers: use ``Lane.place``."""
        self.lane = lane
        self.tokens = tokens
        self._traffic = traffic
        self.order = (-priority, next(traffic.numbers))
        self._loop = asyncio.get_running_loop()
        self._woken = asyncio.Event()
        self.is_under_way = False
        with traffic.lock:
            self._account.queue.append(self)
            self._account.queue.sort(key=lambda place: place.order)

    @property
    def _account(self) -> _Account:
        return self.lane.account

    async def turns(self) -> AsyncGenerator[float | None, None]:
        """End when it is this call's turn.

        Until then, whenever there is news: the seconds that it has to wait, ``None`` where that
        depends on others.
        """
        while True:
            with self._traffic.lock:
                wait = self._admit()
            if self.is_under_way:
                return
            yield wait
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._woken.wait()
            self._woken.clear()

    def give_back(self, used_tokens: int | None) -> None:
        """The call is over, or never was; it used so many tokens, if that is known."""
        with self._traffic.lock:
            account, now = self._account, self._traffic.clock()
            if self in account.queue:
                account.queue.remove(self)
            if self.is_under_way:
                account.under_way -= 1
                self.is_under_way = False
                if account.tokens and used_tokens is not None:
                    account.tokens.take(used_tokens - self.tokens, now)
                self.lane.line.breaker.left()
            self._admit()

    def _admit(self) -> float | None:
        """Let everybody go who may; how long this one must wait, ``None`` until one is done."""
        account, now = self._account, self._traffic.clock()
        own: float | None = None
        for place in list(account.queue):
            if account.under_way >= place.lane.settings.concurrency:
                return own
            if shared := account.wait(place.tokens, now):
                return shared
            if wait := place.lane.line.wait(place.tokens, now):
                own = wait if place is self else own
                continue
            place.begin(now)
        return own

    def begin(self, now: float) -> None:
        """Go. The queue's lock is held."""
        self._account.queue.remove(self)
        self._account.under_way += 1
        self._account.take(self.tokens, now)
        self.lane.line.take(self.tokens, now)
        self.lane.line.breaker.begin()
        self.is_under_way = True
        try:
            self._loop.call_soon_threadsafe(self._woken.set)
        except RuntimeError:  # its event loop is closed, and nobody is there to go
            self._account.under_way -= 1
            self.is_under_way = False


def _bucket(bucket: Bucket | None, per_minute: int | None, now: float) -> Bucket | None:
    if per_minute is None:
        return None
    if bucket is not None and bucket.capacity == per_minute:
        return bucket
    return Bucket.of_a_minute(per_minute, now)
