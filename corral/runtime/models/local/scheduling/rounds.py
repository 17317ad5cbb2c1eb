"""Who is evaluated next, and how much of it. Pure, so that it can be read and tested alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corral.runtime.models.local.native.context import Span
from corral.runtime.models.local.scheduling.run import Run


@dataclass(frozen=True)
class Share:
    """What one run contributes to an evaluation."""

    run: Run
    span: Span


def plan(runs: Sequence[Run], n_batch: int, beside: int) -> list[Share]:
    """The next evaluation of runs that are settled and not ready, at most ``n_batch`` tokens.

    Answers in the making go first, one token (and its draft) each. Prompts share what is left,
    the one with least to go first, and together take at most ``beside`` tokens when somebody
    waits for the next token of an answer: a long prompt must not make the others stutter.
    """
    decoding = [run for run in runs if run.is_decoding]
    prompts = sorted((run for run in runs if not run.is_decoding), key=_to_go)
    shares: list[Share] = []
    left = _take(decoding, n_batch, n_batch, shares)
    if shares:
        left = min(left, beside)
    for position, run in enumerate(prompts):
        fair = max(1, left // (len(prompts) - position))
        left = _take([run], left, fair, shares)
    return shares


def _take(runs: Sequence[Run], left: int, each: int, shares: list[Share]) -> int:
    for run in runs:
        span = run.span(min(left, each))
        if span is not None:
            shares.append(Share(run, span))
            left -= len(span.tokens)
    return left


def _to_go(run: Run) -> int:
    return len(run.target) - len(run.tokens)
