"""Evaluates what a round has planned, makes room where there is none, and says whom it failed."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from corral.errors import ModelError
from corral.runtime.models.contract import Adapter
from corral.runtime.models.local.native.context import Context
from corral.runtime.models.local.scheduling.cache import PrefixCache
from corral.runtime.models.local.scheduling.rounds import Share
from corral.runtime.models.local.scheduling.run import Run

Failures = list[tuple[Run, ModelError]]


class Evaluator:
    """``adapt`` switches the context to other adapters. ``evaluated`` counts tokens."""

    def __init__(
        self,
        context: Context,
        cache: PrefixCache,
        adapt: Callable[[tuple[Adapter, ...]], None],
    ) -> None:
        self._context = context
        self._cache = cache
        self._adapt = adapt
        self._adapters: tuple[Adapter, ...] = ()
        self.evaluated = 0

    def choose(self, runs: Sequence[Run]) -> list[Run]:
        """Of these runs those that can be evaluated together, which takes the same adapters.

        Where there are several groups they take turns.
        """
        groups = list(dict.fromkeys(run.place.adapters for run in runs))
        if len(groups) < 2:
            return list(runs)
        turn = groups.index(self._adapters) + 1 if self._adapters in groups else 0
        chosen = groups[turn % len(groups)]
        return [run for run in runs if run.place.adapters == chosen]

    def evaluate(self, shares: Sequence[Share]) -> Failures:
        """Evaluate them together; each by itself where that fails, to find out whose fault it is.

        A run that had to make room for the others is ``parked`` afterwards.
        """
        try:
            self._use(shares[0].run.place.adapters)
            self._together(list(shares))
        except ModelError as error:
            if len(shares) == 1:
                return [(shares[0].run, error)]
            alone = [share for share in shares if not share.run.parked]
            return [failure for share in alone for failure in self.evaluate([share])]
        return []

    def _together(self, shares: list[Share]) -> None:
        while not self._context.evaluate([share.span for share in shares]):
            if self._cache.evict():
                continue
            if len(shares) == 1:
                raise self._full()
            # Who came last gives its place, and goes on when another has ended.
            self._park(shares.pop().run)
        row = 0
        for share in shares:
            share.run.evaluated(share.span, row)
            row += len(share.span.tokens)
        self.evaluated += row

    def _park(self, run: Run) -> None:
        sequence = run.unsettle()
        run.parked = True
        if sequence is not None:
            self._cache.remove(sequence)

    def _use(self, adapters: tuple[Adapter, ...]) -> None:
        if adapters != self._adapters:
            self._adapt(adapters)
            self._adapters = adapters

    def _full(self) -> ModelError:
        return ModelError(
            f"The model's cache of {self._context.n_ctx:,} tokens is full.",
            hint="Raise cache_tokens of [local], or run fewer agents at once.",
            kind="overloaded",
        )
