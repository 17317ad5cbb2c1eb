"""The process that sessions are forked from: warm, with a single thread, and clean.

It has imported what an interpreter of a session needs, so a fork of it begins to work within a
millisecond; it has run nothing of the user's, so each begins like the first.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import site
import sys
from _socket import AF_UNIX, SOCK_STREAM, socket
from contextlib import suppress
from typing import Any

from corral.sandbox.guest import control, processes
from corral.sandbox.guest.child import PROGRAMS
from corral.sandbox.guest.environment import set_defaults
from corral.sandbox.guest.keeper import Keeper

_HIGHEST = 1 << 20


def main(arguments: list[str]) -> int:
    """Fork a session for each request on standard input (``control``) until that ends.

    ``arguments`` are folders of packages (with colons between), then modules to be imported ahead
    where there are such. A request's ``request`` is JSON: the session's ``language``; its
    descriptor is the session's socket (``keeper``).
    """
    channel = socket(AF_UNIX, SOCK_STREAM, 0, os.dup(0))
    quiet = os.open(os.devnull, os.O_RDWR)
    os.dup2(quiet, 0)
    os.close(quiet)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # which also collects them
    set_defaults()
    site.main()  # what an interpreter without -S has: exit(), and the system's own packages
    folders, *modules = arguments
    _import(folders.split(":"), modules)
    gc.collect()
    gc.freeze()
    while (received := control.receive(channel)) is not None:
        message, descriptors = received
        _open(json.loads(_bytes(message["request"])), descriptors[0])
        for fd in descriptors:
            os.close(fd)
    return 0


def _import(folders: list[str], modules: list[str]) -> None:
    """Import modules; ``sys.path`` stays as it was, since each session sets its own."""
    before = list(sys.path)
    sys.path[:0] = [folder for folder in folders if folder]
    for name in modules:
        with suppress(ImportError):  # it is not installed, and whoever imports it will be told
            __import__(name)
    sys.path[:] = before


def _open(request: dict[str, Any], client: int) -> None:
    """Fork the keeper of a session."""
    if os.fork():
        return
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        os.dup2(client, 3)
        os.closerange(4, _HIGHEST)
        processes.become_subreaper()
        Keeper(3, PROGRAMS[request["language"]]).serve()
    finally:
        os._exit(0)


def _bytes(value: object) -> bytes:
    assert isinstance(value, bytes)
    return value
