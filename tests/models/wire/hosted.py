"""A hosted model whose provider is a loopback server."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from corral.runtime.models.contract import FinalChunk, ModelRequest, TextChunk
from corral.runtime.models.hosted.endpoint import Endpoint
from corral.runtime.models.hosted.model import HostedModel, HostedOptions
from corral.runtime.models.hosted.settings import HostedSettings
from corral.runtime.models.hosted.traffic.lanes import Traffic
from corral.tools.contract import ToolSpec
from tests.models.wire.server import Reply, WireServer

KEY = "sk-proj-0123456789abcdef"
Provider = Literal["openai", "anthropic"]
PROVIDERS: list[Provider] = ["openai", "anthropic"]
MODELS = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5"}

RUN_CODE = ToolSpec(
    server="python",
    tool="run_code",
    description="Run Python.",
    input_schema={
        "type": "object",
        "properties": {"code": {"type": "string"}},
        "required": ["code"],
    },
)
READ_FILE = ToolSpec(
    server="files",
    tool="read_file",
    description="Read a file.",
    input_schema={"type": "object", "properties": {"path": {"type": "string"}}},
)
ASKED = ModelRequest(
    [SystemMessage("Be brief."), HumanMessage("What is 6*7?")], tools=(RUN_CODE, READ_FILE)
)


def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a developer's shell may hold must neither redirect these requests nor trace them."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "LANGSMITH_TRACING"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "LANGSMITH_GATEWAY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/never")


def hosted(provider: Provider, url: str, *, official: bool = True, **options: Any) -> HostedModel:
    """The provider's model as at its own address, but answered by the server at ``url``."""
    endpoint = Endpoint(
        provider=provider,
        model=options.pop("model", MODELS[provider]),
        base_url=url + ("/v1" if provider == "openai" else ""),
        key=options.pop("key", KEY),
        key_variable=f"{provider.upper()}_API_KEY",
        official=official,
    )
    limits = {name: options.pop(name) for name in HostedSettings.model_fields if name in options}
    settings = HostedSettings(**{"timeout": 30, "max_retries": 0, **limits})
    given = HostedOptions(**{"settings": settings, "traffic": Traffic(), **options})
    return HostedModel.from_endpoint(endpoint, name=f"{provider}:{endpoint.model}", options=given)


@asynccontextmanager
async def serving(
    provider: Provider, *replies: Reply, **options: Any
) -> AsyncGenerator[tuple[HostedModel, WireServer], None]:
    async with WireServer(*replies) as server:
        model = hosted(provider, server.url, **options)
        try:
            yield model, server
        finally:
            await model.aclose()


async def answer(model: HostedModel, request: ModelRequest = ASKED) -> tuple[list[str], FinalChunk]:
    chunks = [chunk async for chunk in model.stream(request)]
    final = chunks[-1]
    assert isinstance(final, FinalChunk)
    assert type(final.message) is AIMessage
    assert final.message.invalid_tool_calls == []
    return [chunk.text for chunk in chunks if isinstance(chunk, TextChunk)], final
