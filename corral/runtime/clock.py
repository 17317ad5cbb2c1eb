"""The time, as the database and the journal write it."""

from __future__ import annotations

from datetime import UTC, datetime


def now() -> str:
    """The time in UTC as ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
