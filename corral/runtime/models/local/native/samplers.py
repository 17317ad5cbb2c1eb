"""Chains of llama.cpp's own samplers."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from corral.runtime.models.local.native.library import C
from corral.runtime.models.local.native.params import SamplerParams

_PENALTY_WINDOW = 64


class Sampler:
    """A chain with its own random state. A context manager; freed at its end."""

    def __init__(self, context: Any, n_vocab: int, params: SamplerParams) -> None:
        self._context = context
        self._chain = C.llama_sampler_chain_init(C.llama_sampler_chain_default_params())
        for sampler in _samplers(n_vocab, params):
            C.llama_sampler_chain_add(self._chain, sampler)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()

    def sample(self, row: int) -> int:
        """Choose the next token by a row of scores, and accept it."""
        return int(C.llama_sampler_sample(self._chain, self._context, row))

    def accept(self, token: int) -> None:
        """Count a token as said that was not sampled here."""
        C.llama_sampler_accept(self._chain, token)

    def close(self) -> None:
        """Free the chain. Safe to call twice."""
        chain, self._chain = self._chain, None
        if chain is not None:
            C.llama_sampler_free(chain)


def _samplers(n_vocab: int, params: SamplerParams) -> list[Any]:
    chain: list[Any] = []
    if params.penalizes:
        penalties = (
            params.repeat_penalty,
            params.frequency_penalty,
            params.presence_penalty,
        )
        chain.append(C.llama_sampler_init_penalties(n_vocab, _PENALTY_WINDOW, *penalties))
    if params.temperature <= 0:
        return [*chain, C.llama_sampler_init_greedy()]
    if params.top_k > 0:
        chain.append(C.llama_sampler_init_top_k(params.top_k))
    if params.top_p < 1.0:
        chain.append(C.llama_sampler_init_top_p(params.top_p, 1))
    if params.min_p > 0.0:
        chain.append(C.llama_sampler_init_min_p(params.min_p, 1))
    chain.append(C.llama_sampler_init_temp(params.temperature))
    return [*chain, C.llama_sampler_init_dist(params.seed & 0xFFFFFFFF)]
