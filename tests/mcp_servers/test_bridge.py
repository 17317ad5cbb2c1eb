"""The bridge: a client's session outlives the hosts that serve it."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import CorralError, ToolServerError
from corral.mcp_servers.bridge import Bridge
from corral.mcp_servers.bridge_session import Session
from corral.mcp_servers.wire import MAX_LINE, Oversized

Message = dict[str, Any]

HELLO = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {"protocolVersion": "x"}}
READY = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def line(message: Message) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def request(number: int | str, method: str, **params: Any) -> Message:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def answer(number: int | str | None, **result: Any) -> Message:
    return {"jsonrpc": "2.0", "id": number, "result": result}


def taken(session: Session, side: str) -> list[Message]:
    """The messages that wait for one side, which then has them."""
    lines = getattr(session, side)
    data = b""
    while lines.size:
        head = bytes(lines.head(1000))
        lines.written(len(head))
        data += head
    return [json.loads(one) for one in data.splitlines()]


def tell(session: Session, *messages: Message) -> None:
    for message in messages:
        session.from_client(line(message))


def told(session: Session, *messages: Message) -> None:
    for message in messages:
        session.from_host(line(message))


def greeted() -> Session:
    """A session of a handshake-era client that has had its handshake."""
    session = Session()
    tell(session, HELLO)
    told(session, answer(0))
    tell(session, READY)
    taken(session, "to_host")
    taken(session, "to_client")
    return session


def test_a_new_host_is_told_the_handshake_before_anything_else() -> None:
    session = greeted()
    tell(session, request(1, "tools/list"))
    taken(session, "to_host")

    session.restarted()
    tell(session, request(2, "resources/list"))
    [hello] = taken(session, "to_host")
    assert hello == {**HELLO, "id": hello["id"]}
    assert hello["id"] != HELLO["id"]

    told(session, answer(hello["id"]))
    assert taken(session, "to_host") == [
        READY,
        request(1, "tools/list"),
        request(2, "resources/list"),
    ]
    assert taken(session, "to_client") == []


def test_a_new_host_is_told_what_its_client_has_subscribed_to() -> None:
    session = greeted()
    for at, (what, uri) in enumerate([("", "a"), ("", "b"), ("un", "a")]):
        tell(session, request(at, f"resources/{what}subscribe", uri=uri))
        told(session, answer(at))
    taken(session, "to_host")
    taken(session, "to_client")

    session.restarted()
    [hello] = taken(session, "to_host")
    told(session, answer(hello["id"]))
    ready, again = taken(session, "to_host")
    assert ready == READY
    assert again == request(again["id"], "resources/subscribe", uri="b")
    told(session, answer(again["id"]))
    [news] = taken(session, "to_client")
    assert (news["method"], news["params"]) == ("notifications/resources/updated", {"uri": "b"})


def test_a_client_without_handshake_needs_none_again() -> None:
    session = Session()
    tell(session, request("a", "server/discover"))
    session.restarted()
    assert taken(session, "to_host") == [request("a", "server/discover")]


def test_a_handshake_that_was_lost_is_made_once_more_by_itself() -> None:
    session = Session()
    tell(session, HELLO)
    session.restarted()
    assert taken(session, "to_host") == [HELLO]
    told(session, answer(0))
    assert taken(session, "to_client") == [answer(0)]


def test_a_call_that_was_lost_is_answered_with_what_to_do() -> None:
    session = greeted()
    tell(session, request(7, "tools/call", name="writer"))
    taken(session, "to_host")
    session.restarted()

    [lost] = taken(session, "to_client")
    assert lost["id"] == 7
    assert "run_result" in lost["error"]["message"]
    assert [message["method"] for message in taken(session, "to_host")] == ["initialize"]


def test_what_is_lost_twice_is_not_asked_a_third_time() -> None:
    session = Session()
    tell(session, request(1, "resources/read"))
    session.restarted()
    session.restarted()
    assert taken(session, "to_host") == []
    [lost] = taken(session, "to_client")
    assert lost["id"] == 1
    assert "Send it again" in lost["error"]["message"]


def test_an_answer_to_a_host_that_is_gone_reaches_no_other() -> None:
    """An old yes must never pass for an answer to a new question with the same number."""
    session = Session()
    told(session, request(0, "elicitation/create", message="Delete a?"))
    session.restarted()
    told(session, request(0, "elicitation/create", message="Delete b?"))
    old, new = taken(session, "to_client")

    tell(session, answer(old["id"], action="accept"))
    assert taken(session, "to_host") == []
    tell(session, answer(new["id"], action="decline"))
    assert taken(session, "to_host") == [answer(0, action="decline")]


@pytest.mark.parametrize("number", [None, True, "1:", "1:x{", "2:0", "0", 0, [1], {"a": 1}])
def test_an_answer_with_a_number_that_nobody_gave_is_dropped_or_passed_as_nothing(
    number: Any,
) -> None:
    session = Session()
    session.restarted()
    tell(session, {"jsonrpc": "2.0", "id": number, "result": {}})
    assert all(message["id"] is None for message in taken(session, "to_host"))


def test_a_message_that_is_too_long_is_answered_on_both_sides() -> None:
    session = Session()
    session.from_client(Oversized(3))
    session.from_host(Oversized(4))
    session.from_host(Oversized(None))
    first, second = taken(session, "to_client")
    assert (first["id"], second["id"]) == (3, 4)
    assert str(MAX_LINE) in first["error"]["message"]


@given(st.lists(st.one_of(st.binary(max_size=40), st.sampled_from([line(HELLO), line(READY)]))))
def test_nothing_that_a_client_writes_breaks_a_session(lines: list[bytes]) -> None:
    session = Session()
    for one in lines:
        session.from_client(one.replace(b"\n", b""))
        session.from_host(one.replace(b"\n", b""))
        session.restarted()
    session.give_up("over")


# The whole bridge, over real pipes and sockets.


@dataclass
class Host:
    """The other end of a bridge's connection."""

    connection: socket.socket

    def read(self) -> Message:
        data = b""
        while not data.endswith(b"\n"):
            data += self.connection.recv(1)
        message: Message = json.loads(data)
        return message

    def write(self, message: Message) -> None:
        self.connection.sendall(line(message) + b"\n")


class Bridged:
    """A bridge in a thread, its client's two pipes, and the hosts that it is given in turn."""

    def __init__(self, hosts: Iterator[socket.socket]) -> None:
        source, self._write = os.pipe()
        self._read, target = os.pipe()
        self._fds = [source, target]

        def dial() -> socket.socket:
            found = next(hosts, None)
            if found is None:
                raise ToolServerError("There is no host.", hint="Start one.")
            return found

        self.bridge = Bridge(dial, source, target)
        self.ended: int | CorralError | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.ended = self.bridge.run()
        except CorralError as error:
            self.ended = error
        for fd in self._fds:
            os.close(fd)

    def say(self, *messages: Message) -> None:
        for message in messages:
            os.write(self._write, line(message) + b"\n")

    def hear(self) -> Message:
        data = b""
        while not data.endswith(b"\n"):
            piece = os.read(self._read, 1 << 16)
            assert piece, "the bridge has ended"
            data += piece
        message: Message = json.loads(data)
        return message

    def hang_up(self) -> None:
        """Write nothing more; what the bridge says can still be heard."""
        os.close(self._write)

    def wait(self) -> int | CorralError | None:
        """How the bridge has ended."""
        self._thread.join()
        os.close(self._read)
        return self.ended

    def leave(self) -> int | CorralError | None:
        self.hang_up()
        return self.wait()


@contextmanager
def bridged(count: int) -> Iterator[tuple[Bridged, list[Host]]]:
    pairs = [socket.socketpair() for _ in range(count)]
    with ExitStack() as stack:
        hosts = [Host(stack.enter_context(theirs)) for _, theirs in pairs]
        client = Bridged(ours for ours, _ in pairs)
        yield client, hosts


def test_lines_go_both_ways_and_the_client_ends_it() -> None:
    with bridged(1) as (client, [host]):
        client.say(request(1, "tools/list"))
        assert host.read() == request(1, "tools/list")
        host.write(answer(1, tools=[]))
        assert client.hear() == answer(1, tools=[])
        assert client.leave() == 0
        assert host.connection.recv(1) == b""


@pytest.mark.slow
def test_megabytes_pass_while_the_other_side_writes_too() -> None:
    text = "x" * 3_000_000
    with bridged(1) as (client, [host]):
        asking = threading.Thread(target=client.say, args=[request(1, "tools/call", text=text)])
        answering = threading.Thread(target=host.write, args=[answer(2, text=text)])
        asking.start()
        answering.start()
        heard: list[Message] = []
        reading = threading.Thread(target=lambda: heard.append(client.hear()))
        reading.start()
        data = bytearray()
        while not data.endswith(b"\n"):
            data += host.connection.recv(1 << 16)
        assert json.loads(data) == request(1, "tools/call", text=text)
        for thread in (asking, answering, reading):
            thread.join()
        assert heard == [answer(2, text=text)]
        assert client.leave() == 0


def test_when_the_host_ends_the_next_one_goes_on() -> None:
    with bridged(2) as (client, [first, second]):
        client.say(HELLO, request(1, "tools/call", name="writer"))
        assert first.read() == HELLO
        first.write(answer(0))
        assert client.hear() == answer(0)
        assert first.read()["id"] == 1
        first.connection.close()

        hello = second.read()
        assert hello["method"] == "initialize"
        assert client.hear()["error"]["message"].startswith("Corral was started again")
        second.write(answer(hello["id"]))
        client.say(request(2, "tools/list"))
        assert second.read() == request(2, "tools/list")
        second.write(answer(2, tools=[]))
        assert client.hear() == answer(2, tools=[])
        assert client.leave() == 0


def test_a_client_is_not_read_from_while_a_new_host_lets_it_wait() -> None:
    """What may not go out before the handshake is kept here, and that has an end."""
    ours, theirs = socket.socketpair()
    source, writing = os.pipe()
    reading, target = os.pipe()
    bridge = Bridge(lambda: ours, source, target)
    bridge._socket = bridge._connected()
    bridge._session = greeted()
    bridge._session.restarted()
    os.set_blocking(writing, False)
    note = line({"jsonrpc": "2.0", "method": "notifications/x", "params": {"x": "y" * 30_000}})
    written = 0
    with suppress(BlockingIOError), ours, theirs:
        while written < 100:
            os.write(writing, note + b"\n")
            written += 1
            bridge._turn(0)
    for fd in (source, writing, reading, target):
        os.close(fd)
    assert 10 < written < 100


def test_when_there_is_no_other_host_the_client_is_told() -> None:
    with bridged(1) as (client, [host]):
        client.say(request(1, "tools/list"))
        host.read()
        host.connection.close()
        assert client.hear()["error"]["message"] == "There is no host."
        ended = client.leave()
        assert isinstance(ended, ToolServerError)


def test_hosts_that_end_again_and_again_are_given_up() -> None:
    with bridged(9) as (client, hosts):
        for host in hosts:
            host.connection.close()
        ended = client.wait()
        client.hang_up()
        assert isinstance(ended, ToolServerError)
        assert "again and again" in ended.message


def test_what_was_asked_last_is_answered_before_it_leaves() -> None:
    with bridged(1) as (client, [host]):
        client.say(request(1, "tools/list"))
        client.hang_up()
        host.write(answer(host.read()["id"]))
        assert client.hear() == answer(1)
        assert client.wait() == 0
