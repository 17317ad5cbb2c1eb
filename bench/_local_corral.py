"""Corral as a side of ``bench/local.py``."""

from __future__ import annotations

import time
from pathlib import Path

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage

from bench._local_ask import MIN_P, TEMPERATURE, TOP_K, TOP_P, Answer, Ask, Setup
from bench._local_serve import Opened, main
from corral.runtime.models.contract import (
    FinalChunk,
    JsonOutput,
    ModelRequest,
    Sampling,
    TextChunk,
    Usage,
)
from corral.runtime.models.local.settings import LocalSettings
from corral.runtime.models.registry import ModelOptions, open_model

_MESSAGES: dict[str, type[BaseMessage]] = {
    "system": SystemMessage,
    "user": HumanMessage,
    "assistant": AIMessage,
}


def open_corral(setup: Setup) -> Opened:
    options = ModelOptions(
        context_window=setup.context,
        states=Path(setup.states) if setup.states else None,
        local=LocalSettings(
            threads=setup.threads,
            gpu_layers=setup.gpu_layers,
            parallel=setup.slots,
            cache_tokens=setup.context * setup.slots,
            draft=setup.draft,
        ),
    )
    model = open_model(f"local:{setup.model}", options)

    async def answer(ask: Ask) -> Answer:
        start, first, pieces, usage = time.monotonic(), 0.0, [], Usage()
        async for chunk in model.stream(_request(ask)):
            if isinstance(chunk, TextChunk):
                first = first or time.monotonic()
                pieces.append(chunk.text)
            elif isinstance(chunk, FinalChunk):
                usage = chunk.usage
        end = time.monotonic()
        evaluated = usage.input_tokens - usage.cached_tokens
        return Answer(start, first or end, end, usage.output_tokens, evaluated, "".join(pieces))

    return Opened(answer, model.aclose, {})


def _request(ask: Ask) -> ModelRequest:
    return ModelRequest(
        [_MESSAGES[message["role"]](message["content"]) for message in ask.messages],
        sampling=_sampling(ask),
        output=JsonOutput(ask.schema) if ask.schema else None,
        conversation=ask.conversation,
    )


def _sampling(ask: Ask) -> Sampling:
    if ask.seed < 0:
        return Sampling(temperature=0.0, max_tokens=ask.tokens, repeat_penalty=1.0)
    return Sampling(TEMPERATURE, TOP_P, ask.tokens, ask.seed, (), TOP_K, MIN_P, repeat_penalty=1.0)


if __name__ == "__main__":
    main(open_corral)
