"""A token bucket, in which waiting is a number: nothing here sleeps or reads the clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Bucket:
    """Holds at most ``capacity``, and gains ``per_second``; it held ``level`` at the time ``at``.

    Times are seconds of one steady clock.
    """

    capacity: float
    per_second: float
    level: float
    at: float

    @classmethod
    def of_a_minute(cls, amount: int, now: float) -> Bucket:
        """A full one that gives ``amount`` in each minute."""
        return cls(amount, amount / 60, amount, now)

    def wait(self, amount: float, now: float) -> float:
        """Seconds until ``amount`` is there. What is more than it can hold waits for all of it."""
        missing = min(amount, self.capacity) - self._level(now)
        return max(0.0, missing / self.per_second)

    def take(self, amount: float, now: float) -> None:
        """Take ``amount``, be it there or not; a negative one is given back."""
        self.level = min(self.capacity, self._level(now) - amount)
        self.at = max(self.at, now)

    def _level(self, now: float) -> float:
        gained = max(0.0, now - self.at) * self.per_second
        return min(self.capacity, self.level + gained)
