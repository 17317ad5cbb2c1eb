"""Time to first token and tokens per second: Corral's local model against llama-cpp-python.

    python bench/local.py [MODEL.gguf] [--gpu-layers N] [--threads N] [--pairs N] [--tokens N]

Both run in this process, on the same file with the same threads, prompt, sampling and number of
tokens, in turns: what else the machine does hits both. Every pair has a prompt of its own, so no
prompt comes from a cache; a second table asks again in the same conversation, where it does.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage
from rich.console import Console
from rich.table import Table

from corral.runtime.models.contract import FinalChunk, ModelRequest, Sampling
from corral.runtime.models.local import LocalModel, LocalOptions, bundled_model

SYSTEM = "You are a storyteller. You tell long stories in plain English. " * 8
SUBJECTS = ("a lighthouse", "a baker", "a lost dog", "two rivers", "an old clock", "a tall tree")
TEMPERATURE, TOP_P, SEED = 0.7, 0.95, 1


@dataclass(frozen=True)
class Timing:
    """Seconds to the first token, and tokens per second after it."""

    first: float
    rate: float


async def through_corral(model: LocalModel, messages: list[BaseMessage], tokens: int) -> Timing:
    sampling = Sampling(TEMPERATURE, TOP_P, tokens, SEED)
    start, first, made = time.perf_counter(), 0.0, 0
    async for chunk in model.stream(ModelRequest(messages, sampling=sampling)):
        first = first or time.perf_counter()
        if isinstance(chunk, FinalChunk):
            made = chunk.usage.output_tokens
    return Timing(first - start, (made - 1) / (time.perf_counter() - first))


def directly(llama: Any, messages: list[BaseMessage], tokens: int) -> Timing:
    roles = {"human": "user", "ai": "assistant"}
    start, first, made = time.perf_counter(), 0.0, 0
    stream = llama.create_chat_completion(
        [{"role": roles.get(m.type, m.type), "content": str(m.content)} for m in messages],
        temperature=TEMPERATURE,
        top_p=TOP_P,
        top_k=40,
        min_p=0.05,
        repeat_penalty=1.0,
        seed=SEED,
        max_tokens=tokens,
        stream=True,
    )
    for chunk in stream:
        if chunk["choices"][0]["delta"].get("content"):
            first = first or time.perf_counter()
            made += 1
    return Timing(first - start, (made - 1) / (time.perf_counter() - first))


def open_direct(path: Path, options: argparse.Namespace) -> Any:
    import llama_cpp

    # See corral.runtime.models.local_llama: some builds crash with AMX, so both go without.
    native = llama_cpp.llama_cpp
    if b"AMX_INT8 = 1" in native.llama_print_system_info():
        defaults = native.llama_model_default_params

        def without_extra_buffers() -> Any:
            params = defaults()
            params.use_extra_bufts = False
            return params

        native.llama_model_default_params = without_extra_buffers
    return llama_cpp.Llama(
        str(path),
        n_ctx=2048,
        n_threads=options.threads,
        n_threads_batch=options.threads,
        n_gpu_layers=options.gpu_layers,
        verbose=False,
    )


async def measure(options: argparse.Namespace) -> dict[str, list[tuple[Timing, Timing]]]:
    """Pairs of (Corral, direct), for prompts that are new and for ones that go on."""
    path = options.model or bundled_model()
    model = LocalModel(
        path,
        options=LocalOptions(
            context_window=2048, threads=options.threads, gpu_layers=options.gpu_layers
        ),
    )
    warm: list[BaseMessage] = [HumanMessage("Hello")]
    await through_corral(model, warm, 4)
    llama = open_direct(path, options)
    directly(llama, warm, 4)
    pairs: dict[str, list[tuple[Timing, Timing]]] = {"new prompt": [], "same conversation": []}
    for i in range(options.pairs):
        subject = SUBJECTS[i % len(SUBJECTS)]
        begin: list[BaseMessage] = [
            SystemMessage(f"{i}. {SYSTEM}"),
            HumanMessage(f"Tell {subject}."),
        ]
        go_on = [*begin, HumanMessage("Make it sad.")]
        for kind, messages in (("new prompt", begin), ("same conversation", go_on)):
            if i % 2:
                direct = directly(llama, messages, options.tokens)
                ours = await through_corral(model, messages, options.tokens)
            else:
                ours = await through_corral(model, messages, options.tokens)
                direct = directly(llama, messages, options.tokens)
            pairs[kind].append((ours, direct))
    await model.aclose()
    return pairs


def show(pairs: dict[str, list[tuple[Timing, Timing]]]) -> None:
    table = Table(title="medians over pairs; a ratio is the median of the pairs' ratios")
    for name in ("", "corral", "llama-cpp-python", "ratio"):
        table.add_column(name, justify="right" if name else "left")
    for kind, timings in pairs.items():
        rows = (
            ("first token, ms", [(a.first * 1e3, b.first * 1e3) for a, b in timings]),
            ("tokens/s", [(a.rate, b.rate) for a, b in timings]),
        )
        for label, values in rows:
            ours, direct = (statistics.median(side) for side in zip(*values, strict=True))
            ratio = statistics.median(a / b for a, b in values)
            table.add_row(f"{kind}: {label}", f"{ours:.1f}", f"{direct:.1f}", f"{ratio:.2f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", nargs="?", type=Path, help="a GGUF file; the bundled model")
    parser.add_argument("--gpu-layers", type=int, default=0)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=48)
    show(asyncio.run(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
