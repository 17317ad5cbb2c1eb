"""How often a server that dies is started again."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass

_WINDOW = 60.0
_MAX_DEATHS = 5
_FIRST_PAUSE = 0.25


@dataclass(frozen=True)
class Verdict:
    """Whether to start now: after ``pause`` seconds, or not at all (``refused``)."""

    pause: float = 0.0
    refused: bool = False


class Restarts:
    """At most five deaths a minute, with a pause that doubles from the second on."""

    def __init__(self) -> None:
        self._deaths: deque[float] = deque()

    def died(self) -> None:
        """The server ended by itself or could not be started."""
        self._deaths.append(time.monotonic())

    def verdict(self) -> Verdict:
        """Whether it may be started again."""
        now = time.monotonic()
        while self._deaths and now - self._deaths[0] > _WINDOW:
            self._deaths.popleft()
        if len(self._deaths) >= _MAX_DEATHS:
            return Verdict(refused=True)
        doublings = len(self._deaths) - 2
        return Verdict(pause=_FIRST_PAUSE * 2**doublings if doublings >= 0 else 0.0)
