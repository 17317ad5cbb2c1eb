"""In a session of the handshake era a stream is opened only for who hears something in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.mcp_servers.serving.web import Site, result, site

ADD: dict[str, Any] = {"name": "add", "arguments": {"left": 1, "right": 2}}
STREAM = "text/event-stream"


def kind(answer: Any) -> str:
    return str(answer.headers["content-type"]).partition(";")[0]


async def session_of(here: Site, capabilities: dict[str, Any]) -> str:
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": capabilities,
        "clientInfo": {"name": "mine", "version": "1"},
    }
    message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
    session: str = (await here.post(message, here.headers())).headers["mcp-session-id"]
    told = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    await here.post(told, here.headers(mcp_session_id=session))
    return session


async def test_who_waits_for_the_answer_alone_gets_it_as_json(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        session = await session_of(here, {})
        answer = await here.legacy(session, "tools/call", **ADD)
        assert kind(answer) == "application/json"
        assert result(answer)["result"]["content"][0]["text"] == "3"


async def test_who_asks_for_progress_hears_of_it_in_a_stream(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        session = await session_of(here, {})
        asked: dict[str, Any] = {
            "name": "progress",
            "arguments": {},
            "_meta": {"progressToken": "p"},
        }
        answer = await here.legacy(session, "tools/call", **asked)
        assert kind(answer) == STREAM
        assert answer.text.count("notifications/progress") == 2


@pytest.mark.parametrize(
    ("capabilities", "method", "expected"),
    [
        ({"elicitation": {}}, "tools/call", STREAM),
        ({"elicitation": {}}, "tools/list", "application/json"),
        ({"roots": {}}, "tools/call", "application/json"),
    ],
)
async def test_who_can_be_asked_has_a_stream_for_its_calls(
    tmp_path: Path, capabilities: dict[str, Any], method: str, expected: str
) -> None:
    async with site(tmp_path) as here:
        session = await session_of(here, capabilities)
        if method == "tools/call":
            answer = await here.legacy(session, method, **ADD)
        else:
            answer = await here.legacy(session, method)
        assert kind(answer) == expected


async def test_who_takes_no_stream_is_refused_as_ever(tmp_path: Path) -> None:
    async with site(tmp_path) as here:
        session = await session_of(here, {})
        head = here.headers(mcp_session_id=session) | {"Accept": "application/json"}
        message = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": ADD}
        assert (await here.post(message, head)).status_code == 406
