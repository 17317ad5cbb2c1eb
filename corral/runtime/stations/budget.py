"""The budget station: what an effect may use is reserved before it is made, and settled after."""

from __future__ import annotations

from dataclasses import dataclass

from corral.errors import LimitReached
from corral.policies.limits import RunLimits, check_model_call
from corral.runtime.effects import Effect, Spend
from corral.runtime.journal import Journal


@dataclass(frozen=True)
class Grant:
    """What an effect may use.

    A model may give ``max_output_tokens`` (``None``: as many as it likes) and is told the
    ``notes``.
    """

    max_output_tokens: int | None = None
    notes: tuple[str, ...] = ()


class Meter:
    """The budgets of one execution of a run."""

    def __init__(self, journal: Journal, limits: RunLimits) -> None:
        self._journal = journal
        self._limits = limits

    async def reserve(self, effect: Effect, path: str) -> Grant:
        """Reserve what the effect at ``path`` may use. Raises ``LimitReached``."""
        if effect.kind == "model":
            reason = check_model_call(self._limits, self._journal.spent)
            if reason is not None:
                raise LimitReached(reason)
        return Grant()

    async def settle(self, path: str, spend: Spend, duration_ms: float) -> None:
        """Count what the effect has used, in place of what was reserved."""

    async def release(self, path: str) -> None:
        """Give back what was reserved and not settled: the effect was not made."""
