"""A circuit breaker: an endpoint that failed several times in a row is left alone for a while.

After its rest one call tries it; if that fails as well, it rests again. See M. Nygard, Release It!,
chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Breaker:
    """Whether an endpoint is asked. Times are seconds of one steady clock."""

    failures: int = 0
    _until: float = 0.0
    _is_tried: bool = False

    def rest(self, now: float) -> float | None:
        """Seconds for which nobody may ask it, ``None`` when one may; 0 while one call tries it."""
        if now < self._until:
            return self._until - now
        return 0.0 if self._is_tried else None

    def begin(self) -> None:
        """A call goes out. The first after a rest is a trial."""
        self._is_tried = self._until > 0.0

    def succeeded(self) -> None:
        """It answered, if only with a refusal of the request."""
        self.failures, self._until, self._is_tried = 0, 0.0, False

    def failed(self, now: float, *, most: int, seconds: float) -> None:
        """It failed; after ``most`` failures in a row it rests for ``seconds``."""
        self.failures += 1
        self._is_tried = False
        if self.failures >= most:
            self._until = now + seconds

    def left(self) -> None:
        """The call was given up by who made it: nothing is known."""
        self._is_tried = False
