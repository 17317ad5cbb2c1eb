"""A tool server of ours that may reach something: this process stays beside it, as its proxy."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio.subprocess import Process
from collections.abc import Callable
from pathlib import Path

from corral.cli.context import quiet_logs, wait
from corral.errors import SandboxError
from corral.sandbox.contract import Launch
from corral.sandbox.network.gateway import Reach, open_proxy


def serve_beside_proxy(name: str, reach: Reach, launch: Callable[[Path], Launch]) -> int:
    """Stay as the server's parent and run its proxy; the server's exit status.

    ``launch`` is given the proxy's socket. Raises ``SandboxError``.
    """
    quiet_logs()
    try:
        return wait(_serve(reach, launch))
    except OSError as error:
        raise not_started(name, error) from error


def not_started(name: str, error: OSError) -> SandboxError:
    """What is told of a server whose process could not be made."""
    return SandboxError(
        f"The server {name} could not be started: {error.strerror}", hint="Run: corral doctor"
    )


async def _serve(reach: Reach, launch: Callable[[Path], Launch]) -> int:
    async with open_proxy(reach) as socket:
        made = launch(socket)
        process = await asyncio.create_subprocess_exec(*made.argv, env=made.env)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, _pass_on, process, number)
        code = await process.wait()
        return code if code >= 0 else 128 - code


def _pass_on(process: Process, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)
