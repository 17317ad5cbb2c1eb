"""The first process inside a sandbox that lives on: starts commands and sessions for the host.

It reads requests (see ``control``) from its standard input and does nothing else: each command has
a minder, each session a keeper, forks of this process with streams of their own. Whatever comes to
this process without being one of its own children was left behind by something that broke, and is
killed.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # signal itself takes 5 ms of every start
import gc
import os
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket
from select import POLLIN, poll

from corral.sandbox.guest import control, minder, processes

_STREAMS = 4  # status, stdin, stdout, stderr


class Guest:
    """What runs in this sandbox: the minders of commands and the keepers of sessions."""

    def __init__(self, channel: socket, wake: int) -> None:
        self._channel = channel
        self._wake = wake
        self._children: set[int] = set()
        self._is_warm = False

    def serve(self) -> None:
        """Carry out requests until the host closes the channel."""
        poller = poll()
        poller.register(self._channel.fileno(), POLLIN)
        poller.register(self._wake, POLLIN)
        while True:
            ready = {fd for fd, _ in poller.poll()}
            if self._wake in ready:
                os.read(self._wake, 4096)
                self._collect()
            if self._channel.fileno() in ready:
                received = control.receive(self._channel)
                if received is None:
                    return
                self._carry_out(*received)

    def _carry_out(self, request: dict[str, object], descriptors: list[int]) -> None:
        try:
            if request["op"] == "run":
                self._children.add(_fork(lambda: _run(request, descriptors)))
            else:
                keep = self.warm().keep
                self._children.add(_fork(lambda: keep(request["language"], descriptors[0])))
        except OSError as error:
            # No process can be made: the first descriptor is the status.
            minder.say(descriptors[0], f"failed program {error.errno}")
        finally:
            for fd in descriptors:
                os.close(fd)

    def warm(self, *ahead: object):  # type: ignore[no-untyped-def]  # commands do without it
        """What sessions are forked from; the first waits for its imports."""
        forkserver = __import__("corral.sandbox.guest.forkserver", fromlist=["keep"])
        if not self._is_warm:
            forkserver.warm(*ahead)
            self._is_warm = True
        return forkserver

    def _collect(self) -> None:
        """Forget children that have ended, and kill those that nobody knows."""
        self._children.difference_update(processes.reap())
        for pid in processes.children(os.getpid()):
            if pid not in self._children:
                processes.kill(pid)


def main(arguments: list[str]) -> int:
    """Serve the socket that is the standard input until it ends.

    ``arguments``, if there are any: folders of packages (with colons between), and modules that
    sessions are to have imported already.
    """
    channel = socket(AF_UNIX, SOCK_STREAM, 0, os.dup(0))
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    processes.become_subreaper()
    processes.become_opaque()
    wake, woken = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    _signal.signal(_signal.SIGCHLD, minder.only_wake)
    _signal.set_wakeup_fd(woken)
    gc.freeze()  # the collector of a fork would else write to, and so copy, every page
    _greet(channel)
    guest = Guest(channel, wake)
    if arguments:
        guest.warm(arguments[0], arguments[1:])
    guest.serve()
    processes.end_all_below()
    return 0


def _greet(channel: socket) -> None:
    """Say that commands can be run, and hand over the workspace as a descriptor."""
    folder = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    rights = [(SOL_SOCKET, SCM_RIGHTS, folder.to_bytes(4, "little"))]
    try:
        channel.sendmsg([b"ready\n"], rights)
    except OSError:
        channel.sendall(b"ready\n")  # gVisor hands no descriptors out
    os.close(folder)


def _fork(work) -> int:  # type: ignore[no-untyped-def]  # typing costs 15 ms here
    """A child that does ``work`` and ends; its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        _signal.set_wakeup_fd(-1)
        work()
    finally:
        os._exit(1)


def _run(request: dict[str, object], descriptors: list[int]) -> None:
    status, *streams = descriptors
    _keep_only(descriptors)
    minder.mind(status, lambda: _start(request, streams))


def _start(request: dict[str, object], streams: list[int]) -> int:
    """Start the program of a request in a session of its own; its pid."""
    argv, env = _words(request["argv"]), {**os.environ, **_additions(request)}
    try:
        os.chdir(str(request["cwd"]))
    except OSError as error:
        raise minder.StartError("cwd", error.errno or 0) from error
    os.environ.update(env)  # posix_spawnp looks along the PATH of this process
    try:
        pid = os.posix_spawnp(
            argv[0],
            argv,
            env,
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, place) for place, fd in enumerate(streams)],
            setsid=True,
            setsigmask=[],
            setsigdef=[_signal.SIGPIPE, _signal.SIGXFSZ],
        )
    except OSError as error:
        raise minder.StartError("program", error.errno or 0) from error
    for fd in streams:
        os.close(fd)
    return pid


def _additions(request: dict[str, object]) -> dict[str, str]:
    env = request["env"]
    assert isinstance(env, dict)
    return env


def _keep_only(descriptors: list[int]) -> None:
    """Close everything but the standard streams and ``descriptors``."""
    last = 2
    for fd in sorted(descriptors):
        os.closerange(last + 1, fd)
        last = fd
    os.closerange(last + 1, 1 << 20)


def _words(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(word) for word in value]
