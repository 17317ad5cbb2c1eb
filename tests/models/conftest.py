"""The bundled model, loaded once for all tests of a process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage

from corral.runtime.models.contract import Chunk, FinalChunk, ModelRequest, Sampling, TextChunk
from corral.runtime.models.local.answering.sampling import SamplingDefaults
from corral.runtime.models.local.model import LocalModel, LocalOptions
from corral.runtime.models.local.settings import LocalSettings
from corral.tools.contract import ToolSpec

SYSTEM = "You are Corral, a helpful assistant. Answer in plain English in one short sentence."
CONTEXT = 2048
ONE_THREAD = LocalSettings(threads=1)
WITH_FLASH_ATTENTION = ONE_THREAD.model_copy(update={"flash_attention": "on"})
"""For tests of texts: with it scores depend less on what else is in the cache."""
"""Tests run beside each other: threads that wait for one another would take many times as long."""


@dataclass(frozen=True)
class Answered:
    """What a stream gave: every piece of text, the last chunk, and all of them."""

    pieces: list[str]
    final: FinalChunk
    chunks: list[Chunk]

    @property
    def call(self) -> dict[str, Any]:
        """The arguments of the one tool call."""
        (call,) = self.final.message.tool_calls
        return call["args"]


async def answer(model: LocalModel, request: ModelRequest) -> Answered:
    """Read a whole stream."""
    chunks = [chunk async for chunk in model.stream(request)]
    assert isinstance(chunks[-1], FinalChunk)
    assert not any(isinstance(chunk, FinalChunk) for chunk in chunks[:-1])
    return Answered([one.text for one in chunks if isinstance(one, TextChunk)], chunks[-1], chunks)


def ask(prompt: str, *more: BaseMessage, max_tokens: int = 48, **fields: Any) -> ModelRequest:
    """A request with a system message, one question and a few more messages."""
    messages = [SystemMessage(SYSTEM), HumanMessage(prompt), *more]
    fields.setdefault("sampling", Sampling(max_tokens=max_tokens))
    return ModelRequest(messages, **fields)


def tool(schema: dict[str, Any], name: str = "probe", description: str = "Do it.") -> ToolSpec:
    """A tool of the server ``test``."""
    return ToolSpec("test", name, description, schema)


@pytest.fixture(scope="session")
def local_model() -> LocalModel:
    """SmolLM2-135M with a small context. Freed with the process."""
    return LocalModel(options=LocalOptions(context_window=CONTEXT, settings=ONE_THREAD))


@pytest.fixture(scope="session")
def plain_model() -> LocalModel:
    """The same file, treated as any other model without tools in its template."""
    defaults = SamplingDefaults(temperature=0.0)
    return LocalModel(
        options=LocalOptions(defaults=defaults, context_window=1024, settings=ONE_THREAD)
    )


@pytest.fixture
async def repeatable_model() -> AsyncIterator[LocalModel]:
    """One that nobody else uses, with a cache so short that scores do not depend on the place."""
    short = WITH_FLASH_ATTENTION.model_copy(update={"cache_tokens": 448})
    model = LocalModel(options=LocalOptions(context_window=384, settings=short))
    yield model
    await model.aclose()


@pytest.fixture
def gguf_copy(tmp_path: Path) -> Callable[[Sequence[tuple[int, bytes]], int | None], Path]:
    """Writes the head of the bundled model with some bytes changed, cut at a length."""
    from corral.runtime.models.local.model import bundled_model

    def write(changes: Sequence[tuple[int, bytes]] = (), length: int | None = None) -> Path:
        with bundled_model().open("rb") as source:
            data = bytearray(source.read(length if length is not None else 4_000_000))
        for offset, value in changes:
            data[offset : offset + len(value)] = value
        path = tmp_path / "model.gguf"
        path.write_bytes(data)
        return path

    return write
