"""The threads of a lean server: as few as do the work, gone when there is none to do."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mcp_servers.client import RawClient
from tests.sandbox.inside import wait_until

SERVER = """
import resource, sys, threading
from corral.mcp_servers.protocol import Identity, Server
from corral.mcp_servers.tool import Answer, Effects, Tool

gate = threading.Event()

def who(call):
    return Answer(str(threading.get_native_id()))

def wait(call):
    while not (gate.is_set() or call.cancelled.wait(0.01)):
        pass
    return who(call)

def release(call):
    gate.set()
    return who(call)

if room := int(sys.argv[1]):
    # Room for so many threads: each has a stack that is far larger than all else.
    stack = 256 << 20
    threading.stack_size(stack)
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * resource.getpagesize() + int((max(room, 0) + 0.5) * stack)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))

tools = {
    function.__name__: Tool(
        function.__name__, "A title", "Says which thread it is.",
        {}, (), Effects(read_only=True), function, {"type": "object"},
    )
    for function in (who, wait, release)
}
sys.exit(Server(Identity("test", "Test", "1", "Hello."), tools).serve())
"""


def serving(room: int = 0) -> RawClient:
    return RawClient([sys.executable, "-c", SERVER, str(room)])


@pytest.fixture
def client() -> Iterator[RawClient]:
    with serving() as made:
        yield made


def threads(client: RawClient) -> int:
    """How many threads the server has."""
    status = Path(f"/proc/{client.process.pid}/status").read_text()
    found = re.search(r"Threads:\s+(\d+)", status)
    assert found
    return int(found[1])


def test_calls_one_after_the_other_are_made_by_one_thread_which_then_goes(
    client: RawClient,
) -> None:
    assert client.request("server/discover")["result"]
    assert threads(client) == 1
    # A call may come before the thread that has answered the last one is free.
    assert len({client.text("who") for _ in range(20)}) <= 3
    wait_until(lambda: threads(client) == 1, "the end of a thread that has nothing to do")
    assert client.text("who"), "there is another one when there is work again"
    assert threads(client) > 1


def test_together_they_are_at_most_sixteen_and_all_are_answered(client: RawClient) -> None:
    sent = [client.send("tools/call", {"name": "wait"}) for _ in range(40)]
    wait_until(lambda: threads(client) == 17, "all threads")
    last = client.send("tools/call", {"name": "release"})
    for number in sent[:25]:  # of those that wait for a thread as well
        client.notify("notifications/cancelled", {"requestId": number})
    answers = [client.receive() for _ in range(16)]
    assert {answer["id"] for answer in answers} == {*sent[25:], last}
    wait_until(lambda: threads(client) == 1, "the end of all threads")
    assert client.text("who")


@pytest.mark.slow
def test_a_call_that_comes_as_a_thread_gives_up_waiting_is_made(client: RawClient) -> None:
    """The pauses are around the time for which a thread waits: it ends, or takes the call."""
    for pause in (0.9, 0.96, 0.99, 1.0, 1.01, 1.04):
        client.text("who")
        time.sleep(pause)
        sent = {client.send("tools/call", {"name": "who"}) for _ in range(3)}
        assert {client.receive()["id"] for _ in range(3)} == sent
        assert threads(client) <= 5


def test_with_no_room_for_a_second_thread_calls_wait_for_the_first() -> None:
    with serving(room=1) as client:
        waiting = client.send("tools/call", {"name": "wait"})
        behind = [client.send("tools/call", {"name": "who"}) for _ in range(3)]
        assert client.request("server/discover")["result"], "it is not ended by it"
        client.notify("notifications/cancelled", {"requestId": waiting})
        answers = [client.receive() for _ in behind]
        assert [answer["id"] for answer in answers] == behind
        assert len({answer["result"]["content"][0]["text"] for answer in answers}) == 1


def test_with_no_room_for_any_a_call_is_refused_and_may_be_made_again() -> None:
    with serving(room=-1) as client:
        for _ in range(300):  # more than may be under way: none is left behind
            error = client.request("tools/call", {"name": "who"})["error"]
            assert error["code"] == -32603
            assert "no thread or no memory left" in error["message"]
        assert client.request("tools/list")["result"]["tools"]
