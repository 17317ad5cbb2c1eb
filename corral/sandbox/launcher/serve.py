"""A launcher that stays: forks a supervisor for each sandbox that it is asked for.

It saves each sandbox the start of an interpreter. One byte comes over the socket that is its
standard input for each request, with descriptors: the order, standard input, output and error of
the command, and the lifeline (see ``Supervisor``). The end of the socket is the end of it; the
supervisors end when their own lifelines do.
"""

from __future__ import annotations

import gc
import os
import signal
import socket

from corral.sandbox.launcher import cgroups, spawn
from corral.sandbox.launcher.order import Order

DESCRIPTORS = 5
_PARENT_LOOK = 5.0  # seconds


def main() -> int:
    """Serve until nobody asks any more."""
    requests = socket.socket(fileno=os.dup(0))
    os.closerange(3, requests.fileno())
    os.closerange(requests.fileno() + 1, 1 << 20)
    os.setsid()
    # The kernel collects supervisors that have ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getppid()
    if (parent_group := cgroups.find()) is not None:
        cgroups.sweep(parent_group)
    gc.freeze()  # the collector of a fork would else write to, and so copy, every page
    requests.settimeout(_PARENT_LOOK)
    while os.getppid() == parent:
        try:
            received, descriptors, _, _ = socket.recv_fds(requests, 1, DESCRIPTORS)
        except TimeoutError:
            continue
        if not received:
            break
        if len(descriptors) == DESCRIPTORS and os.fork() == 0:
            requests.close()
            _oversee(descriptors)
        for fd in descriptors:
            os.close(fd)
    return 0


def _oversee(descriptors: list[int]) -> None:
    """Become the supervisor of one request. Never returns."""
    try:
        text, *streams, line = descriptors
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        lifeline = socket.socket(fileno=line)
        os.set_inheritable(line, False)
        for place, fd in enumerate(streams):
            os.dup2(fd, place)
            os.close(fd)
        with open(text, "rb") as file:  # noqa: PTH123 -- a descriptor
            file.seek(0)
            order = Order.from_text(file.read().decode())
        spawn.oversee(order, os.getppid(), lifeline)
    finally:
        os._exit(1)
