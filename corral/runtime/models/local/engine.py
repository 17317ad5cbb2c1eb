"""One loaded model, and all that is needed to answer requests with it.

Imports llama.cpp, llguidance and Jinja: ``model`` imports it when a model is first used.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from concurrent.futures import Future
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import Adapter, Chunk, ModelRequest
from corral.runtime.models.local.answering.answering import Answering, AnsweringOptions
from corral.runtime.models.local.drafting.drafting import Drafting
from corral.runtime.models.local.files.adapters import AdapterStore
from corral.runtime.models.local.files.gguf import GgufInfo
from corral.runtime.models.local.files.memory import CPU_BATCH, GPU_BATCH
from corral.runtime.models.local.native.context import Context
from corral.runtime.models.local.native.library import build
from corral.runtime.models.local.native.params import ContextParams, WeightsParams
from corral.runtime.models.local.native.weights import Weights
from corral.runtime.models.local.scheduling.contract import Generation, Place
from corral.runtime.models.local.scheduling.evaluating import Evaluator
from corral.runtime.models.local.scheduling.job import Emit, Job
from corral.runtime.models.local.scheduling.placing import Placing
from corral.runtime.models.local.scheduling.scheduler import Limits, Scheduler
from corral.runtime.models.local.settings import FlashAttention
from corral.runtime.models.local.states.held import identity
from corral.runtime.models.local.states.store import StateOptions, StateStore

T = TypeVar("T")

_CPU_BESIDE, _GPU_BESIDE = 32, 256
"""Tokens of prompts that are evaluated with the next tokens of answers."""
_ROWS = 17
"""Scores that one answer may ask for at once: of a token, and of the longest draft after it."""


@dataclass(frozen=True)
class EngineParams:
    """How one model is loaded, with nothing left open.

    ``window`` is the tokens of one conversation, ``cache_tokens`` those of all. ``saved_memory``
    and ``saved_disk`` are bytes for conversations that left the cache; ``states`` is where those on
    the disk go. ``memory_bytes`` is what all of it takes.
    """

    window: int
    cache_tokens: int
    n_threads: int
    gpu_layers: int
    parallel: int
    queue: int
    draft: str = "none"
    saved_memory: int = 0
    saved_disk: int = 0
    states: Path | None = None
    memory_bytes: int = 0
    flash_attention: FlashAttention = "auto"


class Engine:
    """A loaded model. Its methods may be called from any thread, and ``stream`` from any loop.

    ``tell`` is told how much is loaded, and says ``False`` when nobody waits for it any more.
    Raises ``ModelError``.
    """

    def __init__(self, info: GgufInfo, params: EngineParams, tell: Callable[[float], bool]) -> None:
        self._params = params
        self._weights = Weights(info, WeightsParams(params.gpu_layers), tell)
        try:
            self._open(params)
        except BaseException:
            self._weights.close()
            raise

    @property
    def memory_bytes(self) -> int:
        """What it takes of this machine's memory."""
        return self._params.memory_bytes

    @property
    def evaluated_tokens(self) -> int:
        """Tokens that went through the network since the model was loaded."""
        return self._evaluator.evaluated

    @property
    def facts(self) -> JsonObject:
        """What it has and how much of it is used, for who looks at it."""
        cache = self._placing.cache
        return {
            "context_window": self._params.window,
            "cache_tokens": self._context.n_ctx,
            "flash_attention": self._params.flash_attention,
            "sequences": len(cache.sequences),
            "evaluated_tokens": self.evaluated_tokens,
            **({"saved": self._states.facts()} if self._states else {}),
        }

    async def stream(
        self, request: ModelRequest, options: AnsweringOptions
    ) -> AsyncGenerator[Chunk, None]:
        """Answer a request, together with all others; closing the iterator stops the answer."""

        def make(emit: Emit) -> Generation:
            self._adapters.handles(request.adapters)  # refused before anything is evaluated
            return self._answering(options).generation(request, emit)

        place = Place(request.conversation, request.priority, request.adapters)
        job = Job(make, place, self._scheduler.mail, request.deadline)
        self._scheduler.submit(job)
        async with aclosing(job.chunks()) as chunks:
            async for chunk in chunks:
                yield chunk

    def call(self, function: Callable[[Weights], T]) -> Future[T]:
        """Do something else with the weights, on the engine's thread between two evaluations."""
        return self._scheduler.call(lambda: function(self._weights))

    def close(self) -> None:
        """Free everything, after the answers that are being made. Safe to call twice."""
        self._scheduler.close()

    def _open(self, params: EngineParams) -> None:
        weights, on_gpu = self._weights, params.gpu_layers != 0
        _ = weights.tokenizer  # made while the user waits anyway, and not at the first tool call
        n_batch = min(GPU_BATCH if on_gpu else CPU_BATCH, params.cache_tokens)
        self._context = Context(
            weights,
            ContextParams(
                n_cells=params.cache_tokens,
                n_batch=n_batch,
                n_sequences=params.parallel * (2 if weights.recurrent else 3) + 2,
                n_threads=params.n_threads,
                n_rows=min(n_batch, params.parallel * _ROWS),
                flash_attention=params.flash_attention,
            ),
        )
        self._drafting = Drafting(
            params.draft,
            weights,
            n_ctx=params.window,
            n_threads=params.n_threads,
            flash_attention=params.flash_attention,
        )
        self._answerings: dict[AnsweringOptions, Answering] = {}
        self._adapters = AdapterStore(weights)
        self._states = _states(weights, params)
        self._placing = Placing(self._context, self._states, recurrent=weights.recurrent)
        self._evaluator = Evaluator(self._context, self._placing.cache, self._adapt)
        limits = Limits(
            parallel=params.parallel,
            queue=params.queue,
            window=params.window,
            beside=_GPU_BESIDE if on_gpu else _CPU_BESIDE,
        )
        self._scheduler = Scheduler(
            self._context, self._placing, self._evaluator, limits, self._free
        )

    def _answering(self, options: AnsweringOptions) -> Answering:
        found = self._answerings.get(options)
        if found is None:
            found = Answering(self._weights, self._context, options, self._drafting)
            self._answerings[options] = found
        return found

    def _adapt(self, adapters: tuple[Adapter, ...]) -> None:
        self._context.use_adapters(*self._adapters.handles(adapters))

    def _free(self) -> None:
        self._drafting.close()
        self._context.close()
        self._weights.close()


def _states(weights: Weights, params: EngineParams) -> StateStore | None:
    if not params.saved_memory and not params.saved_disk:
        return None
    facts = {
        "build": build(),
        "gpu_layers": params.gpu_layers,
        # Without it values lie in the cache the other way round, and scores are not the same.
        "flash_attention": params.flash_attention,
    }
    return StateStore(
        StateOptions(
            identity=identity(weights.info.path, facts),
            memory=params.saved_memory,
            disk=params.saved_disk,
            folder=params.states,
            # Of a layer with a window only what it still sees at the end is saved.
            cuts=not weights.recurrent and weights.window == 0,
        )
    )
