"""Agents and our tool servers for MCP clients, on standard input and output or over HTTP."""

from __future__ import annotations

import os
import sys
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.by_hand import tell_whoever_typed
from corral.cli.context import current, quiet_logs, wait, warn_if_unconfined
from corral.cli.mcp.served import BRIDGED, TOOLS
from corral.cli.output import note
from corral.errors import NotFoundError
from corral.runtime.importing import without_collecting

if TYPE_CHECKING:
    from corral.mcp_servers.launches import Start
    from corral.mcp_servers.serving.http import Opening
    from corral.runtime.config import Settings
    from corral.tools.addition import Basis


def serve(
    name: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="agents, all, memory; or one of our servers: files, python, shell, web, sql, git.",
        ),
    ],
    http: Annotated[
        bool, typer.Option("--http", help="Over HTTP, at a URL that is printed, with a token.")
    ] = False,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; others need [serve.oauth].")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 0,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Processes that answer.")] = 1,
) -> int:
    """Serve agents, or one of our tool servers, for any MCP client.

    agents: each configured agent is a tool; what they work on goes on when the client leaves. all:
    the tools of all servers as well, as far as the policy lets them out. A server of ours runs in
    the sandbox, and what it may reach is what the settings say: [web], [sql.NAME].
    """
    known = (*BRIDGED, *TOOLS)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise NotFoundError(
            f"There is no server of ours named {name}.",
            hint=f"{meant}There are: {', '.join(known)}.",
        )
    if http:
        return _over_http(name, host, port, workers)
    tell_whoever_typed(name)
    if name in BRIDGED:
        from corral.mcp_servers import bridge

        options = current()
        return bridge.serve(name, options.home, options.workspace, options.config)
    return _on_stdio(name, current().settings())


def _on_stdio(name: str, settings: Settings) -> int:
    """Become the server in its sandbox, or stay beside it as its proxy."""
    from corral.cli.mcp.beside import not_started, serve_beside_proxy
    from corral.mcp_servers.launches import PROXY, Start
    from corral.sandbox.registry import select_backend
    from corral.tools.builtin import builtin_server
    from corral.tools.networked import Networked, confined

    warn_if_unconfined(settings)
    server = builtin_server(name, settings.workspace, settings.builtin)
    launch = confined(select_backend(settings.sandbox, settings.sandbox_require), server)
    sys.stdout.flush()
    if isinstance(launch, Networked):
        if (reach := launch.reach.to_json()) is not None:
            made = launch.launch(PROXY)
            _remember(name, Start(made.argv, made.env, reach), server.basis, settings)
        return serve_beside_proxy(name, launch.reach, launch.launch)
    _remember(name, Start(launch.argv, launch.env), server.basis, settings)
    try:
        os.execve(launch.argv[0], launch.argv, dict(launch.env))  # noqa: S606  # no shell, on purpose
    except OSError as error:
        raise not_started(name, error) from error


def _remember(name: str, start: Start, basis: Basis, settings: Settings) -> None:
    """Have the next start of this server go the short way (``corral.cli.entry``)."""
    from corral.agents.hosting.place import find_place
    from corral.mcp_servers.launches import keep

    if settings.sandbox != "bubblewrap" or settings.sandbox_require:
        return
    options = current()
    place = find_place(options.home, options.workspace, options.config)
    keep(place, name, start, basis.names, basis.contents)


def _over_http(name: str, host: str, port: int, workers: int) -> int:
    """Serve until a signal comes. Where and with which token is told on standard error."""
    with without_collecting():
        from corral.mcp_servers.serving.announcing import announced
        from corral.mcp_servers.serving.http import planned, serve_here, serve_workers

        settings = current().settings()
        quiet_logs()
        opening = _opening(name, settings)
    plan, listener = planned(settings.home, settings.serve, host, port, workers)
    note(f"serving {name} at {plan.url}")
    if plan.token is not None:
        note(f"token: {plan.token.secret}")
    note("Press Ctrl-C to stop; what agents work on goes on.")
    with announced(settings.home, plan.listening(name, os.getpid())):
        if workers > 1:
            serve_workers(opening, plan, listener)
        else:
            wait(serve_here(opening, plan, listener))
    return 0


def _opening(name: str, settings: Settings) -> Opening:
    """What opens the service of a worker."""
    from corral.agents.hosting.place import connect, find_place
    from corral.mcp_servers.agents.opening import open_agents, open_tools

    if name not in BRIDGED:
        warn_if_unconfined(settings)
        return partial(open_tools, name, settings)
    options = current()
    place = find_place(options.home, options.workspace, options.config)
    connect(place, {"as": "runs"}).close()  # the first client does not wait for it, nor see it fail
    return partial(open_agents, place, name, settings.serve.wait)
