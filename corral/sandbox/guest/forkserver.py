"""What sessions are forked from: a process that is warm, with a single thread, and clean.

It has imported what an interpreter of a session needs, so a fork of it begins to work within a
millisecond; it has run nothing of the user's, so each begins like the first. That is the guest
(``init``), of which a server that runs in a sandbox has one of its own below it.
"""

from __future__ import annotations

import gc
import os
import signal
import site
import sys
from collections.abc import Sequence
from contextlib import suppress

from corral.sandbox.guest import processes
from corral.sandbox.guest.child import PROGRAMS, Language
from corral.sandbox.guest.environment import set_defaults
from corral.sandbox.guest.keeper import Keeper

_HIGHEST = 1 << 20


def warm(folders: str = "", modules: Sequence[str] = ()) -> None:
    """Get this process ready to be forked.

    ``modules`` are imported ahead, also from ``folders`` of packages (with colons between), where
    there are such.
    """
    if modules:
        set_defaults()
        _import(folders.split(":"), modules)
    site.main()  # what an interpreter without -S has: exit(), and the system's own packages
    gc.collect()
    gc.freeze()  # the collector of a fork would else write to, and so copy, every page


def keep(language: Language, client: int) -> None:
    """Become the keeper of a session, in a fork; ``client`` is its socket. Never returns."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        set_defaults()
        os.setsid()
        os.dup2(client, 3)
        os.closerange(4, _HIGHEST)
        processes.become_subreaper()
        Keeper(3, PROGRAMS[language]).serve()
    finally:
        os._exit(0)


def _import(folders: list[str], modules: Sequence[str]) -> None:
    """Import modules; ``sys.path`` stays as it was, since each session sets its own."""
    before = list(sys.path)
    sys.path[:0] = [folder for folder in folders if folder]
    for name in modules:
        with suppress(ImportError):  # it is not installed, and whoever imports it will be told
            __import__(name)
    sys.path[:] = before
