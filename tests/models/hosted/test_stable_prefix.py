"""Requests as providers get them begin as the one before: tools, system message, conversation."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

import corral
from corral.memory.store import Source
from corral.runtime.config import Settings
from tests.models.wire.hosted import PROVIDERS, Provider, quiet, serving
from tests.models.wire.server import Reply, shape


@corral.tool(read_only=True)
def run_code(code: str) -> str:
    """Run a program."""
    return f"{code}: 42"


@corral.tool(read_only=True)
def read_file(path: str) -> str:
    """Read a file, which is long."""
    return f"{path} says nothing. " * 3000


def calling(provider: Provider) -> Reply:
    """An answer that calls both tools."""
    body = shape(f"{provider}_tools").body.replace(b"python__", b"functions__")
    return Reply(body.replace(b"files__", b"functions__"))


def plain(part: Any) -> Any:
    """A part of a request without the marks of where a cache may end."""
    if isinstance(part, list):
        return [plain(one) for one in part]
    if not isinstance(part, dict):
        return part
    found = {key: plain(one) for key, one in part.items() if key != "cache_control"}
    if isinstance(found.get("content"), str):
        found["content"] = [{"type": "text", "text": found["content"]}]
    return found


@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_provider_gets_the_same_beginning_each_time(
    provider: Provider, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet(monkeypatch)
    calls, text = calling(provider), shape(f"{provider}_text")
    told = Source("assistant", "t-before", "r-before")

    async def yes(_question: corral.Approval) -> corral.Approved:
        return corral.Approved()

    async with serving(provider, *[calls, text] * 3) as (model, server), corral.open(settings) as c:
        agent = corral.Agent(chat_model=model, servers=(), functions=(run_code, read_file))
        thread = None
        for city in ("Lisbon", "Oslo", "Vienna"):
            await c.memory.remember(f"The user has been to {city}.", told, city)
            options = corral.RunOptions(agent=agent, thread=thread, approver=yes)
            done = await c.run(f"What is there in {city}?", options)
            assert done.status == "completed", done.error
            thread = done.thread
        sent = [plain(request.body) for request in server.requests]
    assert len(sent) == 6
    for before, after in pairwise(sent):
        assert after["messages"][: len(before["messages"])] == before["messages"]
        assert after["tools"][: len(before["tools"])] == before["tools"]
        assert after.get("system") == before.get("system")
    assert [len(body["tools"]) for body in sent] == [2, 4, 4, 4, 4, 4]
    assert all(str(body).count("has been to Vienna") == 0 for body in sent[:4])
    assert str(sent[-1]).count("has been to Lisbon") == 1
