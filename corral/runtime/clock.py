"""The time, as the database and the journal write it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def now() -> str:
    """The time in UTC as ISO 8601, to the millisecond."""
    return _written(datetime.now(UTC))


def ago(age: timedelta) -> str:
    """The time that was ``age`` ago, as ``now`` writes it."""
    return _written(datetime.now(UTC) - age)


def _written(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds_between(begin: str, end: str) -> float:
    """How long it was from one such time to another; 0 when the clock was set back between."""
    passed = datetime.fromisoformat(end) - datetime.fromisoformat(begin)
    return max(0.0, round(passed.total_seconds() * 1000, 3))
