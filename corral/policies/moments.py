"""Times in rules: hours of the day, days of the week, and an end."""

from __future__ import annotations

from datetime import datetime, time, timedelta

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def in_hours(at: datetime, after: time | None, before: time | None, days: tuple[str, ...]) -> bool:
    """Whether a moment lies from ``after`` (included) to ``before``, on one of ``days``.

    Hours that go past midnight (22:00 to 06:00) belong to the day on which they began.
    """
    clock, day = at.time(), at
    if after is not None and before is not None and after >= before:
        if before <= clock < after:
            return False
        if clock < before:
            day = at - timedelta(days=1)
    elif (after is not None and clock < after) or (before is not None and clock >= before):
        return False
    return not days or DAYS[day.weekday()] in days


def is_over(at: datetime, until: datetime) -> bool | None:
    """Whether ``until`` has come. One without a zone is local; ``None``: it cannot be told."""
    if until.tzinfo is None:
        return at.replace(tzinfo=None) >= until
    return at >= until if at.tzinfo is not None else None
