"""Answers requests with one loaded model: the only module here that others need to know."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field

from corral.runtime.models.call_ids import call_id
from corral.runtime.models.contract import Chunk, ModelRequest, Sampling
from corral.runtime.models.local.answering.answer import Answer
from corral.runtime.models.local.answering.decoding import Decoder
from corral.runtime.models.local.answering.planning import Planner
from corral.runtime.models.local.answering.prompts.template import ChatPrompt, TemplateParts
from corral.runtime.models.local.answering.sampling import SamplingDefaults
from corral.runtime.models.local.constraints.grammar import Constraints
from corral.runtime.models.local.drafting.drafting import Drafting
from corral.runtime.models.local.native.context import Context
from corral.runtime.models.local.native.weights import Weights
from corral.runtime.models.local.scheduling.contract import Generation, Room, Scores, Step


@dataclass(frozen=True)
class AnsweringOptions:
    """How one model answers.

    ``n_ctx`` is what a conversation may have of tokens. ``sampling`` holds where a request says
    nothing, ``defaults`` where that says nothing either. ``chat_template`` is a Jinja text instead
    of the file's own.
    """

    n_ctx: int
    sampling: Sampling = field(default_factory=Sampling)
    defaults: SamplingDefaults = field(default_factory=SamplingDefaults)
    chat_template: str | None = None


class Answering:
    """Makes generations. On the engine's thread only. ``drafting`` guesses tokens ahead.

    Raises ``ModelError`` for a chat template that cannot be used.
    """

    def __init__(
        self,
        weights: Weights,
        context: Context,
        options: AnsweringOptions,
        drafting: Drafting | None = None,
    ) -> None:
        self._weights = weights
        self._context = context
        self._drafting = drafting
        parts = TemplateParts(
            model=weights.info.path.name,
            source=options.chat_template or weights.info.chat_template,
            bos=weights.bos_text,
            ends=tuple(map(weights.token_text, weights.end_tokens)),
            control=weights.control_texts,
        )
        self._planner = Planner(
            model=parts.model,
            words=weights,
            prompt=ChatPrompt(parts),
            constraints=Constraints(weights),
            n_ctx=options.n_ctx,
            bos=parts.bos,
            sampling=options.sampling,
            defaults=options.defaults,
        )

    def generation(self, request: ModelRequest, emit: Callable[[Chunk], None]) -> Generation:
        """The answer to a request, which hands its chunks to ``emit``.

        Raises ``ModelError`` for what is known to be impossible before anything is evaluated.
        """
        plan = self._planner.plan(request)
        decoder = Decoder(self._weights, self._context, plan)
        answer = Answer(plan, decoder, emit, lambda at: call_id(request, at))
        return _Drafted(answer, decoder, self._drafting)


@dataclass(frozen=True)
class _Drafted:
    """An answer with somebody who guesses ahead, from its beginning to its end."""

    answer: Answer
    decoder: Decoder
    drafting: Drafting | None

    def run(self, room: Room) -> Generator[Step, Scores, None]:
        drafter = self.drafting.drafter() if self.drafting is not None else None
        if drafter is None:
            yield from self.answer.run(room)
            return
        with closing(drafter):
            self.decoder.guess_with(drafter)
            yield from self.answer.run(room)
