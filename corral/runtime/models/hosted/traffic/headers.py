"""What providers say about their limits in the headers of an answer.

OpenAI: ``x-ratelimit-limit-requests``, ``-remaining-requests``, ``-reset-requests: 1m12s``;
Anthropic: ``anthropic-ratelimit-requests-limit``, ``-remaining``, ``-reset: 2026-11-22T10:00:00Z``;
both for tokens as well, and ``retry-after`` in seconds or as a date (RFC 9110, 10.2.3).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from corral.runtime.models.hosted.traffic.buckets import Bucket

What = Literal["requests", "tokens"]

_DURATION = re.compile(
    r"(?:(\d{1,6})h)?(?:(\d{1,6})m(?!s))?(?:([\d.]{1,12})s)?(?:([\d.]{1,12})ms)?"
)
_UNITS = (3600.0, 60.0, 1.0, 0.001)
_ANTHROPIC: Mapping[What, tuple[str, ...]] = {
    "requests": ("requests",),
    "tokens": ("tokens", "input-tokens"),
}
_SOONEST = 0.05


@dataclass(frozen=True)
class Allowance:
    """What is left of a limit, and in how many seconds all of it is there again."""

    limit: int
    remaining: int
    reset: float

    def bucket(self, now: float) -> Bucket:
        """The limit as a bucket that fills evenly, as the providers' do."""
        missing = max(0, self.limit - self.remaining)
        rate = missing / max(self.reset, _SOONEST) if missing else self.limit / 60
        return Bucket(self.limit, max(rate, self.limit / 86_400), self.remaining, now)


def allowances(headers: Mapping[str, str], wall: datetime) -> dict[What, Allowance]:
    """The limits that an answer tells; ``wall`` is the time of day, with its zone."""
    found: dict[What, Allowance] = {}
    for what in _ANTHROPIC:
        for limit, remaining, reset in _names(what):
            numbers = _number(headers.get(limit)), _number(headers.get(remaining))
            seconds = _until(headers.get(reset, ""), wall)
            if numbers[0] and numbers[1] is not None and seconds is not None:
                found[what] = Allowance(int(numbers[0]), int(numbers[1]), seconds)
                break
    return found


def wait_asked_for(headers: Mapping[str, str], wall: datetime) -> float | None:
    """Seconds that the server asks one to wait, ``None`` when it says nothing.

    Without ``retry-after`` it is the time until a limit that is used up is there again.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    if asked := headers.get("retry-after", "").strip():
        seconds = _number(asked)
        return seconds if seconds is not None else _until_date(asked, headers, wall)
    used_up = [one.reset for one in allowances(headers, wall).values() if one.remaining == 0]
    return max(used_up, default=None)


def _names(what: What) -> list[tuple[str, str, str]]:
    parts = ("limit", "remaining", "reset")
    openai = [f"x-ratelimit-{part}-{what}" for part in parts]
    anthropic = [
        [f"anthropic-ratelimit-{name}-{part}" for part in parts] for name in _ANTHROPIC[what]
    ]
    return [(limit, left, reset) for limit, left, reset in (openai, *anthropic)]


def _number(text: str | None) -> float | None:
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if 0 <= number < math.inf else None


def _until(text: str, wall: datetime) -> float | None:
    """Seconds until a reset: a duration such as ``6m0.5s``, or a time (RFC 3339)."""
    if text and (found := _DURATION.fullmatch(text)):
        parts = [_number(part) or 0.0 for part in found.groups()]
        return sum(part * unit for part, unit in zip(parts, _UNITS, strict=True))
    if (plain := _number(text)) is not None:
        return plain
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max(0.0, (at.replace(tzinfo=at.tzinfo or UTC) - wall).total_seconds())


def _until_date(text: str, headers: Mapping[str, str], wall: datetime) -> float | None:
    """Seconds until an HTTP date, by the server's own clock where it tells its time."""
    at = _http_date(text)
    now = _http_date(headers.get("date", "")) or wall
    return None if at is None else max(0.0, (at - now).total_seconds())


def _http_date(text: str) -> datetime | None:
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        return None
    return at.replace(tzinfo=at.tzinfo or UTC)
