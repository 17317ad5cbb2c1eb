"""llama-cpp-python's ``create_chat_completion`` as a side of ``bench/local.py``."""

from __future__ import annotations

import time
from typing import Any

import llama_cpp

from bench._local_ask import MIN_P, TEMPERATURE, TOP_K, TOP_P, Answer, Ask, Setup
from bench._local_serve import Opened, main

_C: Any = llama_cpp.llama_cpp


def open_llama(setup: Setup) -> Opened:
    """The model, loaded. Answers are made one after the other."""
    _without_extra_buffers()
    llama: Any = llama_cpp.Llama(
        setup.model,
        n_ctx=setup.context,
        n_threads=setup.threads,
        n_threads_batch=setup.threads,
        n_gpu_layers=setup.gpu_layers,
        verbose=False,
    )

    async def answer(ask: Ask) -> Answer:
        before = _prompt_tokens(llama)
        start, first, made, pieces = time.monotonic(), 0.0, 0, []
        for chunk in llama.create_chat_completion(ask.messages, stream=True, **_sampling(ask)):
            if text := chunk["choices"][0]["delta"].get("content"):
                first = first or time.monotonic()
                made += 1
                pieces.append(text)
        end = time.monotonic()
        evaluated = _prompt_tokens(llama) - before
        return Answer(start, first or end, end, made, evaluated, "".join(pieces))

    async def close() -> None:
        llama.close()

    return Opened(answer, close, {"system": _C.llama_print_system_info().decode()})


def _without_extra_buffers() -> None:
    """All sides go without: see ``corral.runtime.models.local.native.weights``."""
    defaults = _C.llama_model_default_params

    def params() -> Any:
        made = defaults()
        made.use_extra_bufts = False
        return made

    _C.llama_model_default_params = params


def _prompt_tokens(llama: Any) -> int:
    """How many tokens were evaluated several at a time, since the model was loaded."""
    return int(_C.llama_perf_context(llama.ctx).n_p_eval)


def _sampling(ask: Ask) -> dict[str, Any]:
    always = {"max_tokens": ask.tokens, "repeat_penalty": 1.0}
    if ask.seed < 0:
        return always | {"temperature": 0.0}
    sampling = {"temperature": TEMPERATURE, "top_p": TOP_P, "top_k": TOP_K, "min_p": MIN_P}
    return always | sampling | {"seed": ask.seed}


if __name__ == "__main__":
    main(open_llama)
