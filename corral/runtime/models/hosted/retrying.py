"""Whether a call that failed is made again, and when.

Exponential backoff with full jitter (https://aws.amazon.com/blogs/architecture/
exponential-backoff-and-jitter), or what the server asks for. The SDKs' own retries are off: they
can neither be seen nor be ended early, and know nothing of a deadline.
"""

from __future__ import annotations

import asyncio
import random
import re
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Literal, TypeVar

from corral.runtime.models.contract import Usage
from corral.runtime.models.hosted.answer import BrokenOff
from corral.runtime.models.hosted.errors import (
    is_foreign,
    is_no_answer,
    is_out_of_credit,
    is_timeout,
    is_unreachable,
    status_of,
    words_of,
)

T = TypeVar("T")

Kind = Literal["limit", "trouble", "broken", "final"]
"""What a failure says: a rate limit, trouble at the server, an answer that broke off (which may
also be the network), or that the same request will fail again."""

_FIRST_WAIT = 1.0
_LONGEST_BACKOFF = 30.0
LONGEST_WAIT = 120.0
"""Seconds. A server that asks for more is asked again by nobody who waits at a screen."""

_AGAIN = (408, 409, 429)
_IN_STREAM = re.compile(
    r"overloaded|server_error|api_error|internal_error|timeout_error|rate_limit|unavailable"
)


class DeadlineOver(TimeoutError):
    """The time that a request has for its whole answer is over."""


class Course:
    """What the attempts of one call have in common: their number, their time, what they used.

    ``used`` is of the attempts that failed: what had begun to be answered is to be paid for.
    """

    def __init__(self, max_retries: int, deadline: float | None) -> None:
        """``deadline`` is in seconds from now."""
        self.retries = 0
        self.used = Usage()
        self._max_retries = max_retries
        self._ends = None if deadline is None else time.monotonic() + deadline

    @property
    def remaining(self) -> float | None:
        """Seconds until the deadline, ``None`` without one."""
        return None if self._ends is None else max(0.0, self._ends - time.monotonic())

    def pause_before(self, kind: Kind, asked: float | None) -> float | None:
        """Seconds before the next attempt, ``None``: there is none; ``asked`` by the server."""
        if kind == "final" or self.retries >= self._max_retries:
            return None
        wait = pause(self.retries, asked)
        if wait > LONGEST_WAIT or (self.remaining is not None and wait >= self.remaining):
            return None
        self.retries += 1
        return wait

    async def timed(
        self, source: AsyncGenerator[T, None], silence: float | None
    ) -> AsyncGenerator[T, None]:
        """What ``source`` gives, as long as there is time.

        Raises ``DeadlineOver``, and ``TimeoutError`` when nothing came for ``silence`` seconds.
        """
        async with aclosing(source) as items:
            while True:
                limits = [limit for limit in (silence, self.remaining) if limit is not None]
                try:
                    async with asyncio.timeout(min(limits, default=None)):
                        item = await anext(items)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    if self.remaining == 0:
                        raise DeadlineOver from None
                    raise
                yield item


def pause(retry: int, asked: float | None, chance: Callable[[], float] = random.random) -> float:
    """Seconds before the retry of that number, from 0; ``asked`` is what the server wants."""
    if asked is not None:
        # A tenth more at random: not everybody who waits comes back at once.
        return asked * (1 + chance() / 10)
    return chance() * min(_LONGEST_BACKOFF, _FIRST_WAIT * 2.0**retry)


def kind_of(error: Exception) -> Kind:
    """What a failure says about asking again."""
    headers = headers_of(error)
    if headers.get("x-should-retry") == "false":
        return "final"
    if isinstance(error, DeadlineOver) or is_foreign(error):
        return "final"
    status = status_of(error)
    if status is not None and status >= 300:
        return _kind_of_status(status, error)
    if isinstance(error, BrokenOff) or is_no_answer(error):
        return "broken"
    if is_timeout(error) or is_unreachable(error):
        return "trouble"
    if _IN_STREAM.search(words_of(error)):
        return "limit" if "rate_limit" in words_of(error) else "trouble"
    return "final"


def headers_of(error: Exception) -> Mapping[str, str]:
    """The headers of the answer that an SDK's error came with."""
    found: Mapping[str, str] = getattr(getattr(error, "response", None), "headers", None) or {}
    return found


def _kind_of_status(status: int, error: Exception) -> Kind:
    if is_out_of_credit(status, words_of(error)):
        return "final"
    if status == 429:
        return "limit"
    return "trouble" if status in _AGAIN or (status >= 500 and status != 501) else "final"
