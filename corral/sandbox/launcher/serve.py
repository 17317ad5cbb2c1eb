"""A launcher that stays: forks a supervisor for each sandbox that it is asked for.

It saves each sandbox the start of an interpreter. One byte comes over the socket that is its
standard input for each request, with descriptors: the order, standard input, output and error of
the command, and the lifeline (see ``Supervisor``). The end of the socket is the end of it; the
supervisors end when their own lifelines do.
"""

from __future__ import annotations

import _signal as signal  # type: ignore[import-not-found]  # signal itself costs a fork its enums
import gc
import os
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET, socket  # the rest of it takes 10 ms

from corral.sandbox.launcher import cgroups, spawn, staging
from corral.sandbox.launcher.order import Order
from corral.sandbox.launcher.supervisor import Wanted

DESCRIPTORS = 5
_INT = 4
_PARENT_LOOK = 5.0  # seconds


def main() -> int:
    """Serve until nobody asks any more."""
    requests = socket(fileno=os.dup(0))
    os.closerange(3, requests.fileno())
    os.closerange(requests.fileno() + 1, 1 << 20)
    os.setsid()
    staging.prepare(spawn.SANDBOX_USER)
    # The kernel collects supervisors that have ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getppid()
    groups = cgroups.find()
    if groups is not None:
        cgroups.sweep(groups)
    gc.freeze()  # the collector of a fork would else write to, and so copy, every page
    requests.settimeout(_PARENT_LOOK)
    while os.getppid() == parent:
        try:
            received, descriptors = _receive(requests)
        except TimeoutError:
            continue
        if not received:
            break
        if len(descriptors) == DESCRIPTORS and os.fork() == 0:
            requests.close()
            _oversee(descriptors, groups)
        for fd in descriptors:
            os.close(fd)
    return 0


def _receive(requests: socket) -> tuple[bytes, list[int]]:
    """The byte of the next request, empty at the end, and its descriptors."""
    received, ancillary, _, _ = requests.recvmsg(1, CMSG_SPACE(DESCRIPTORS * _INT))
    found: list[int] = []
    for level, kind, data in ancillary:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            whole = len(data) - len(data) % _INT
            found += memoryview(data)[:whole].cast("i")
    return received, found


def _oversee(descriptors: list[int], groups: str | None) -> None:
    """Become the supervisor of one request. Never returns."""
    try:
        text, *streams, line = descriptors
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        lifeline = socket(fileno=line)
        os.set_inheritable(line, False)
        for place, fd in enumerate(streams):
            os.dup2(fd, place)
            os.close(fd)
        with open(text, "rb") as file:  # noqa: PTH123 -- a descriptor
            file.seek(0)
            order = Order.from_text(file.read().decode())
        spawn.oversee(order, Wanted(os.getppid(), lifeline), groups)
    finally:
        os._exit(1)
