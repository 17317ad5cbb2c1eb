"""The loop station: a run that goes round in circles is nudged, asked about, and stopped."""

from __future__ import annotations

from corral.errors import LimitReached
from corral.jsontypes import digest
from corral.policies.limits import RunLimits
from corral.policies.loops import stuck
from corral.runtime.effects import Effect, Settled
from corral.runtime.journal import Journal


class Watch:
    """Looks out for loops in one execution of a run."""

    def __init__(self, journal: Journal, limits: RunLimits) -> None:
        self._journal = journal
        self._limits = limits

    async def check(self, effect: Effect, path: str) -> Settled | tuple[str, ...]:
        """Notes for the model, or the outcome of a call that is not made because it is pointless.

        Raises ``LimitReached``.
        """
        if effect.guard is not None:
            args = digest(effect.guard.args)
            reason = stuck(self._journal.calls, effect.name, args, self._limits.max_repeats)
            if reason is not None:
                raise LimitReached(reason)
        return ()
