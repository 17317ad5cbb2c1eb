"""How long a sandbox lives: the service ends one that nobody has used for a while."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from corral.sandbox.backends.e2b.service import E2BOptions

if TYPE_CHECKING:
    from e2b_code_interpreter.code_interpreter_async import AsyncSandbox

Renew = Callable[[float | None], Awaitable[None]]
"""``Lease.renew``."""

_LONGEST = 3600.0  # what the service grants any account; also for calls without a limit
_MARGIN = 60.0


class Lease:
    """The life of one sandbox, made longer whenever it is used, and never beyond ``wall``."""

    def __init__(self, sdk: AsyncSandbox, options: E2BOptions, wall: float | None) -> None:
        self._sdk = sdk
        self._options = options
        now = time.monotonic()
        self._end = math.inf if wall is None else now + wall
        self._until = now + first_seconds(options, wall)
        self._renewing = asyncio.Lock()

    async def renew(self, seconds: float | None = 0.0) -> None:
        """Make sure that it lives for ``seconds`` of work (``None``: a long time) and some more."""
        work = _LONGEST if seconds is None else seconds
        most = max(_LONGEST, self._options.timeout)
        async with self._renewing:
            now = time.monotonic()
            needed = min(work + self._options.timeout / 2, most - _MARGIN, self._end - now)
            if self._until - now >= needed:
                return
            wanted = min(work + self._options.timeout, most, self._end - now)
            with self._options.asked_to("keep the sandbox alive"):
                await self._sdk.set_timeout(max(1, math.ceil(wanted)))
            self._until = now + wanted

    @property
    def seconds(self) -> int:
        """What it gets when it is resumed."""
        left = min(self._options.timeout, self._end - time.monotonic())
        return max(1, math.ceil(left))

    def resumed(self) -> None:
        """It lives for ``seconds`` from now on."""
        self._until = time.monotonic() + self.seconds


def first_seconds(options: E2BOptions, wall: float | None) -> int:
    """For how long a sandbox is started."""
    return math.ceil(options.timeout if wall is None else min(options.timeout, wall))
