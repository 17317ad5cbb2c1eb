"""The wire: both eras, refusals with the right code, and calls that do not block each other."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.mcp_servers.wire import MAX_LINE
from tests.mcp_servers.client import ENVELOPE, RawClient

SERVER = """
import os, subprocess, sys, threading
from corral.mcp_servers.protocol import Identity, Server
from corral.mcp_servers.tool import Answer, Effects, Tool, ToolFault

gate = threading.Event()

def wait(call):
    while not call.cancelled.is_set() and not gate.is_set():
        call.cancelled.wait(0.01)
    if call.cancelled.is_set():
        open(sys.argv[1], "w").close()
    return Answer("waited")

def release(call):
    gate.set()
    return Answer("released")

def noisy(call):
    print("not JSON at all")
    os.write(1, b"nor this\\n")
    subprocess.run(["echo", "nor that"])
    try:
        input()
    except EOFError:
        return Answer("half a character: \\ud800")

def broken(call):
    raise RuntimeError("a secret detail")

def refuse(call):
    raise ToolFault("no, and here is why")

number = {"type": "number", "minimum": 1, "maximum": 5}
quiet = Effects(read_only=True)
tools = {
    function.__name__: Tool(
        function.__name__, "A title", "Says something.",
        {"number": number, "text": {"type": "string", "minLength": 1}, "flag": {"type": "boolean"}},
        (), quiet, function, {"type": "object"},
    )
    for function in (wait, release, noisy, broken, refuse)
}
sys.exit(Server(Identity("test", "Test", "1", "Hello."), tools).serve())
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "cancelled"


@pytest.fixture
def client(mark: Path) -> Iterator[RawClient]:
    with RawClient([sys.executable, "-c", SERVER, str(mark)]) as made:
        yield made


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_the_handshake_agrees_on_every_released_version(client: RawClient, version: str) -> None:
    result = client.request("initialize", {"protocolVersion": version}, modern=False)["result"]
    assert result["protocolVersion"] == version
    assert result["serverInfo"]["name"] == "test"
    assert result["capabilities"]["tools"] == {"listChanged": False}
    client.notify("notifications/initialized", {})
    tool = client.request("tools/list", modern=False)["result"]["tools"][0]
    assert ("annotations" in tool) == (version >= "2025-03-26")
    assert ("outputSchema" in tool) == (version >= "2025-06-18")
    assert client.request("ping", modern=False)["result"] == {}


def test_an_unknown_version_is_answered_with_ours(client: RawClient) -> None:
    result = client.request("initialize", {"protocolVersion": "1999-01-01"}, modern=False)["result"]
    assert result["protocolVersion"] == "2025-11-25"


def test_the_modern_era_needs_no_handshake(client: RawClient) -> None:
    result = client.request("server/discover")["result"]
    assert result["supportedVersions"][0] == "2026-07-28"
    assert result["resultType"] == "complete"
    assert result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"] == "test"
    listed = client.request("tools/list")["result"]
    assert listed["cacheScope"] == "private"
    assert listed["ttlMs"] > 0
    assert client.call("refuse")["resultType"] == "complete"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"{", -32700),
        (b"[" * 100_000, -32700),
        (b"[]", -32600),
        (b'"text"', -32600),
        (b'{"jsonrpc":"1.0","id":1,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":7}', -32600),
        (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":[1],"method":"ping"}', -32600),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list","params":[1]}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"tools/list"}', -32602),
        (b'{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}', -32602),
    ],
)
def test_what_is_no_request_is_refused(client: RawClient, line: bytes, code: int) -> None:
    client.write(line + b"\n")
    assert client.receive()["error"]["code"] == code
    assert client.request("server/discover")["result"]


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("no/such", {}, -32601),
        ("ping", {}, -32601),
        ("tools/call", {"name": "missing"}, -32602),
        ("tools/call", {"name": "wait", "arguments": []}, -32602),
        ("tools/list", {"cursor": "x"}, -32602),
    ],
)
def test_a_request_that_cannot_be_served(
    client: RawClient, method: str, params: dict[str, Any], code: int
) -> None:
    assert client.request(method, params)["error"]["code"] == code


def test_an_unknown_modern_version_is_told_what_is_supported(client: RawClient) -> None:
    envelope = {**ENVELOPE, "io.modelcontextprotocol/protocolVersion": "2031-01-01"}
    error = client.request("tools/list", {"_meta": envelope}, modern=False)["error"]
    assert error["code"] == -32022
    assert error["data"]["requested"] == "2031-01-01"
    assert "2026-07-28" in error["data"]["supported"]


def test_notifications_and_answers_get_no_answer(client: RawClient) -> None:
    client.write(b'{"jsonrpc":"2.0","method":"notifications/unheard-of"}\n')
    client.write(b'{"jsonrpc":"2.0","id":5,"result":{}}\n\n  \n')
    client.notify("notifications/cancelled", {"requestId": ["nonsense"]})
    assert client.request("server/discover")["result"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"other": 1}, "there is no argument 'other'"),
        ({"text": 1}, "'text' must be of type string"),
        ({"text": ""}, "'text' must not be empty"),
        ({"number": True}, "'number' must be of type number"),
        ({"number": 0}, "'number' must be at least 1"),
        ({"number": 6}, "'number' must be at most 5"),
        ({"flag": 1}, "'flag' must be of type boolean"),
    ],
)
def test_arguments_are_checked(client: RawClient, arguments: Any, words: str) -> None:
    text = client.fault("refuse", **arguments)
    assert words in text
    assert "It takes: number, text, flag" in text


def test_faults_reach_the_model_and_crashes_do_not(client: RawClient) -> None:
    assert client.fault("refuse") == "no, and here is why"
    text = client.fault("broken")
    assert text == "broken failed inside: RuntimeError"
    assert client.fault("refuse")


def test_stray_output_stays_off_the_wire(client: RawClient) -> None:
    assert client.text("noisy") == "half a character: ?"


def test_a_long_call_blocks_neither_pings_nor_other_calls(client: RawClient) -> None:
    client.request("initialize", {"protocolVersion": "2025-11-25"}, modern=False)
    waiting = client.send("tools/call", {"name": "wait"})
    assert client.request("ping", modern=False)["result"] == {}
    assert client.send("tools/call", {"name": "release"}) == waiting + 2
    answers = {client.receive()["id"] for _ in range(2)}
    assert answers == {waiting, waiting + 2}


def test_a_cancelled_call_ends_and_is_not_answered(client: RawClient, mark: Path) -> None:
    waiting = client.send("tools/call", {"name": "wait"})
    client.notify("notifications/cancelled", {"requestId": waiting, "reason": "enough"})
    assert client.text("release") == "released"
    while not mark.exists():
        assert client.request("server/discover")["result"]


def test_an_id_in_use_and_too_many_calls_are_refused(client: RawClient) -> None:
    first = client.send("tools/call", {"name": "wait"})
    body = {"name": "wait", "_meta": ENVELOPE}
    again = {"jsonrpc": "2.0", "id": first, "method": "tools/call", "params": body}
    client.write(json.dumps(again).encode() + b"\n")
    assert client.receive()["error"]["code"] == -32600
    for _ in range(255):
        client.send("tools/call", {"name": "wait"})
    error = client.request("tools/call", {"name": "wait"})["error"]
    assert "too many calls" in error["message"]


def test_calls_that_find_no_room_wait_for_it(client: RawClient, mark: Path) -> None:
    waiting = [client.send("tools/call", {"name": "wait"}) for _ in range(16)]
    behind = client.send("tools/call", {"name": "noisy"})
    dropped = client.send("tools/call", {"name": "release"})
    client.notify("notifications/cancelled", {"requestId": dropped})
    client.notify("notifications/cancelled", {"requestId": waiting[0]})
    assert client.receive()["id"] == behind
    while not mark.exists():
        assert client.request("server/discover")["result"]


def test_a_message_that_is_too_long_is_refused_by_its_id(client: RawClient) -> None:
    start = b'{"jsonrpc":"2.0","id":77,"method":"tools/call","params":"'
    client.write(start + b"x" * (MAX_LINE + 100_000) + b'"}\n')
    message = client.receive()
    assert message["id"] == 77
    assert "longer than" in message["error"]["message"]
    assert client.request("server/discover")["result"]


def test_several_messages_in_one_write_and_one_in_several(client: RawClient) -> None:
    one = {"jsonrpc": "2.0", "method": "server/discover", "params": {"_meta": ENVELOPE}}
    lines = b"".join(json.dumps({**one, "id": n}).encode() + b"\n" for n in (1, 2, 3))
    client.write(lines[:-40])
    assert [client.receive()["id"] for _ in range(2)] == [1, 2]
    client.write(lines[-40:])
    assert client.receive()["id"] == 3


def test_the_end_of_input_ends_the_server(client: RawClient, mark: Path) -> None:
    client.send("tools/call", {"name": "wait"})
    assert client.process.stdin is not None
    client.process.stdin.close()
    assert client.process.wait(20) == 0
