"""Inside: what connects to ports of the sandbox's loopback is passed on to sockets of the host's.

    python -I -S relay.py 3128=/run/corral/network/proxy.sock … -- COMMAND ARGUMENT…

The relay is a process of its own beside the command, and ends with the sandbox. Its process
becomes the command, so that signals and the exit code are the command's own. Standard library
only, one thread: the sandbox's limits on processes and memory count it, too.
"""

from __future__ import annotations

import os
import selectors
import socket
import sys
import time
from contextlib import suppress
from itertools import pairwise

_CHUNK = 64 * 1024
_BACKLOG = 64
_PAUSE = 0.05
_MOST_DESCRIPTORS = 1 << 20


class _Way:
    """One direction of a connection: what was read on one side and waits for the other."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source = source
        self.target = target
        self.waiting = b""
        self.is_over = False

    @property
    def is_done(self) -> bool:
        return self.is_over and not self.waiting

    def read(self) -> None:
        try:
            self.waiting = self.source.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self.waiting = b""
        if not self.waiting:
            self._end()

    def write(self) -> None:
        if not self.waiting:
            return
        try:
            self.waiting = self.waiting[self.target.send(self.waiting) :]
        except BlockingIOError:
            return
        except OSError:  # nobody takes it any more
            self.waiting = b""
            self._end()

    def _end(self) -> None:
        self.is_over = True
        with suppress(OSError):  # the other side may be gone
            self.target.shutdown(socket.SHUT_WR)


class Relay:
    """Passes bytes on between pairs of sockets until both ways of a pair are over."""

    def __init__(self, listeners: dict[socket.socket, str]) -> None:
        self._ways: dict[socket.socket, tuple[_Way, _Way]] = {}
        self._listeners = listeners
        self._selector = selectors.DefaultSelector()
        for listener in listeners:
            self._selector.register(listener, selectors.EVENT_READ)

    def run(self) -> None:
        """Never returns."""
        while True:
            for key, events in self._selector.select():
                ready = key.fileobj
                assert isinstance(ready, socket.socket)
                if ready in self._listeners:
                    self._accept(ready)
                elif ready in self._ways:
                    self._pass_on(ready, events)

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except OSError:  # no descriptors are left: perhaps one will be soon
            time.sleep(_PAUSE)
            return
        try:
            host = socket.socket(socket.AF_UNIX)
            host.connect(self._listeners[listener])
        except OSError:
            client.close()
            return
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        out, back = _Way(client, host), _Way(host, client)
        for one, ways in ((client, (out, back)), (host, (back, out))):
            one.setblocking(False)
            self._ways[one] = ways
            self._selector.register(one, selectors.EVENT_READ)

    def _pass_on(self, ready: socket.socket, events: int) -> None:
        """``ready`` can be read from, or written to."""
        away, toward = self._ways[ready]
        if events & selectors.EVENT_READ and not away.waiting:
            away.read()
        for way in (away, toward):
            way.write()
        if away.is_done and toward.is_done:
            self._close(away)
        else:
            self._watch(away, toward)

    def _watch(self, away: _Way, toward: _Way) -> None:
        for reads, writes in ((away, toward), (toward, away)):
            wanted = 0 if reads.waiting or reads.is_over else selectors.EVENT_READ
            wanted |= selectors.EVENT_WRITE if writes.waiting else 0
            one = reads.source
            is_watched = one in self._selector.get_map()
            if wanted and is_watched:
                self._selector.modify(one, wanted)
            elif wanted:
                self._selector.register(one, wanted)
            elif is_watched:
                self._selector.unregister(one)

    def _close(self, way: _Way) -> None:
        for one in (way.source, way.target):
            del self._ways[one]
            if one in self._selector.get_map():
                self._selector.unregister(one)
            one.close()


def listen(ports: dict[int, str]) -> dict[socket.socket, str]:
    """Listen on ports of the loopback; each socket with the path that it is passed on to."""
    found = {}
    for port, path in ports.items():
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
        found[listener] = path
    return found


def main(arguments: list[str]) -> None:
    """Listen, leave a relay behind, and become the command."""
    end = arguments.index("--")
    ports = {int(port): path for port, _, path in (one.partition("=") for one in arguments[:end])}
    command = arguments[end + 1 :]
    listeners = listen(ports)
    child = os.fork()
    if child == 0:
        # Twice, so that the command has no child that it did not start.
        if os.fork() == 0:
            _stay(listeners)
        os._exit(0)
    os.waitpid(child, 0)
    for listener in listeners:
        listener.close()
    try:
        os.execvp(command[0], command)  # noqa: S606 -- an argument list, no shell
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        os._exit(127)


def _stay(listeners: dict[socket.socket, str]) -> None:
    """Be the relay. Never returns."""
    try:
        os.setsid()
        quiet = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(quiet, stream)
        _close_others(listeners)
        Relay(listeners).run()
    finally:
        os._exit(1)


def _close_others(listeners: dict[socket.socket, str]) -> None:
    """Close what the command has inherited: a pipe that the relay held would never end."""
    kept = sorted({2, _MOST_DESCRIPTORS, *(listener.fileno() for listener in listeners)})
    for one, after in pairwise(kept):
        os.closerange(one + 1, after)


if __name__ == "__main__":
    main(sys.argv[1:])
