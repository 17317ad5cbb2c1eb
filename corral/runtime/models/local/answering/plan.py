"""What one answer is to be, with nothing left open."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corral.runtime.models.local.answering.prompts.thoughts import Thoughts
from corral.runtime.models.local.constraints.grammar import Constraint
from corral.runtime.models.local.native.params import SamplerParams


@dataclass(frozen=True)
class Decision:
    """A prompt of its own that asks only whether to call a tool.

    A call is made there when its first token has at least the log probability ``threshold``.
    """

    prompt: Sequence[int]
    constraint: Constraint
    threshold: float


@dataclass(frozen=True)
class AnswerPlan:
    """What to generate after which prompt, in a context of ``n_ctx`` tokens.

    ``constraint`` is ``None`` where nothing but text may be written. It holds from the start where
    ``at_once``, and else from where a call begins. ``decision`` comes first: if it ends in a call,
    ``prompt`` is not used. ``corrected`` gives the prompt that shows the model what it wrote and
    what is wrong with it. ``logprobs`` is as in ``Sampling``.
    """

    prompt: Sequence[int]
    n_ctx: int
    max_tokens: int
    text: SamplerParams
    call: SamplerParams
    corrected: Callable[[str, str], Sequence[int]]
    stops: tuple[str, ...] = ()
    constraint: Constraint | None = None
    at_once: bool = False
    decision: Decision | None = None
    thoughts: Thoughts | None = None
    logprobs: int | None = None
