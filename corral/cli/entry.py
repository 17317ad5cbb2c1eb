"""The console command. A client that starts a server for a session does not wait for the rest.

What is served through the run host, and a tool server whose start is remembered, needs none of the
commands: it is recognised word by word, and anything else, options and mistakes included, is left
to ``corral.cli.main``.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from corral.cli.by_hand import tell_whoever_typed
from corral.cli.mcp.served import BRIDGED, TOOLS
from corral.runtime.importing import without_collecting

if TYPE_CHECKING:
    from corral.mcp_servers.launches import Start

_OPTIONS = ("--home", "--workspace", "--config")


class Serving(NamedTuple):
    """A command line that is nothing but ``corral [options] mcp serve WHAT``."""

    what: str
    home: Path | None
    workspace: Path | None
    config: Path | None


def plain(words: Sequence[str]) -> Serving | None:
    """What is to be served on standard input and output; ``None`` for other command lines."""
    given: dict[str, Path] = {}
    rest = list(words)
    while rest and rest[0].partition("=")[0] in _OPTIONS:
        name, equals, value = rest.pop(0).partition("=")
        if not equals and rest:
            value = rest.pop(0)
        if not value or value.startswith("-"):
            return None
        given[name] = Path(value)
    if rest[:2] != ["mcp", "serve"] or len(rest) != 3 or rest[2] not in (*BRIDGED, *TOOLS):
        return None
    return Serving(rest[2], *map(given.get, _OPTIONS))


def main() -> None:
    """Run the command line on ``sys.argv`` and exit with its code."""
    order = plain(sys.argv[1:])
    if order is not None and order.what in BRIDGED:
        from corral.mcp_servers.bridge import serve

        tell_whoever_typed(order.what)
        _exit_with(lambda: serve(*order))
    if order is not None:
        _start_again(order)
    with without_collecting():
        from corral.cli.main import main as all_commands
    all_commands()


def _exit_with(work: Callable[[], int]) -> NoReturn:
    try:
        code = work()
    except BaseException as error:  # noqa: BLE001  # told as every command's errors are
        from corral.cli.main import told

        code = told(error, sys.argv[1:])
    sys.exit(code)


def _start_again(order: Serving) -> None:
    """Start the server, and do not return, if it is remembered how."""
    from corral.agents.hosting.place import find_place
    from corral.mcp_servers.launches import kept

    start = kept(find_place(order.home, order.workspace, order.config), order.what)
    if start is None:
        return
    tell_whoever_typed(order.what)
    if start.reach is not None:
        _exit_with(lambda: _stay_beside(order.what, start))
    with contextlib.suppress(OSError):
        os.execve(start.argv[0], list(start.argv), dict(start.env))  # noqa: S606  # no shell, on purpose


def _stay_beside(what: str, start: Start) -> int:
    from corral.cli.mcp.beside import serve_beside_proxy
    from corral.sandbox.contract import Launch
    from corral.sandbox.network.gateway import Reach

    def launch(socket: Path) -> Launch:
        made = start.beside(socket)
        return Launch(tuple(made.argv), made.env)

    assert start.reach is not None
    return serve_beside_proxy(what, Reach.from_json(dict(start.reach)), launch)
