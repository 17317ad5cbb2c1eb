"""Our servers on standard input and output, for any MCP client."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from difflib import get_close_matches
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current, quiet_logs, wait, warn_if_unconfined
from corral.errors import NotFoundError, SandboxError

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from corral.tools.networked import Networked


def serve(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="files, python, shell, web, sql or git.")
    ],
) -> int:
    """Serve one of our servers on stdio, in the sandbox, for any MCP client.

    What it may reach is what the settings say: [web], [sql.NAME].
    """
    from corral.sandbox.registry import select_backend
    from corral.tools.builtin import builtin_server
    from corral.tools.networked import Networked, confined
    from corral.tools.settings import BUILTIN_SERVERS

    if name not in BUILTIN_SERVERS:
        near = get_close_matches(name, BUILTIN_SERVERS, n=1)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise NotFoundError(
            f"There is no server of ours named {name}.",
            hint=f"{meant}There are: {', '.join(BUILTIN_SERVERS)}.",
        )
    settings = current().settings()
    warn_if_unconfined(settings)
    server = builtin_server(name, settings.workspace, settings.builtin)
    launch = confined(select_backend(settings.sandbox, settings.sandbox_require), server)
    sys.stdout.flush()
    try:
        if isinstance(launch, Networked):
            return wait(_serve_beside_proxy(launch))
        os.execve(launch.argv[0], launch.argv, dict(launch.env))  # noqa: S606  # no shell, on purpose
    except OSError as error:
        raise SandboxError(
            f"The server {name} could not be started: {error.strerror}",
            hint="Run: corral doctor",
        ) from error


async def _serve_beside_proxy(networked: Networked) -> int:
    """Stay as the server's parent and run its proxy; the server's exit status."""
    import asyncio

    from corral.sandbox.network.gateway import open_proxy

    quiet_logs()
    async with open_proxy(networked.reach) as socket:
        launch = networked.launch(socket)
        process = await asyncio.create_subprocess_exec(*launch.argv, env=launch.env)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, _pass_on, process, number)
        code = await process.wait()
        return code if code >= 0 else 128 - code


def _pass_on(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
