"""Start the guest of a sandbox: its launch, its greeting, and the proxy if it has a network."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from corral.errors import SandboxError
from corral.sandbox import host
from corral.sandbox.capabilities import DECLARED
from corral.sandbox.contract import Grant, LocalBackend, Profile, Reason
from corral.sandbox.files.local import LocalFiles
from corral.sandbox.guest.capture import Capture
from corral.sandbox.local.commands import Output
from corral.sandbox.local.control import Control, Ready
from corral.sandbox.local.starter import Started, start
from corral.sandbox.network.gateway import Reach, open_proxy

GUEST = Path(__file__).resolve().parent.parent / "guest"
_WITH_WORKSPACE = frozenset({"bubblewrap", "landlock"})
_SECONDS = 30.0
_SHOWN = 1000


@dataclass(frozen=True)
class Guest:
    """A guest that takes requests: its launch, the channel to it and its workspace."""

    started: Started
    control: Control
    files: LocalFiles


async def open_guest(
    backend: LocalBackend,
    profile: Profile,
    resources: AsyncExitStack,
    on_breach: Callable[[Reason, str], None],
) -> Guest:
    """Start a guest. Closing ``resources`` ends it, with everything in it.

    Raises ``SandboxError``, with what it said, when it does not start.
    """
    wanted = profile
    profile = await _with_network(profile, resources)
    profile = _with_workspace(backend, profile, resources)
    profile = replace(profile, grants=(*profile.grants, Grant(GUEST)))
    argv = (str(host.interpreter()), "-I", "-S", str(GUEST / "__main__.py"), "init")
    launch = await asyncio.to_thread(backend.launch, argv, profile)
    control = Control()
    resources.callback(control.close)
    said = Capture(_SHOWN)
    errors = await _read_errors(said, resources)
    quiet = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        streams = (control.end.fileno(), quiet, errors)
        started = await start(launch, streams, on_breach, _scratch(profile, wanted))
    finally:
        os.close(quiet)
        os.close(errors)
        control.end.close()
    resources.push_async_callback(_end, started)
    ready = await _greeting(control, started, said)
    if DECLARED[backend.name].isolation != "user_kernel":  # whose processes are not the host's
        started.spare(ready.pid)
    files = _files(profile, ready)
    resources.callback(files.close)
    return Guest(started, control, files)


async def _with_network(profile: Profile, resources: AsyncExitStack) -> Profile:
    if not profile.network or profile.proxy is not None:
        return profile
    reach = Reach(profile.network, "the network of the sandbox's profile")
    socket = await resources.enter_async_context(open_proxy(reach))
    return replace(profile, proxy=socket)


def _with_workspace(backend: LocalBackend, profile: Profile, resources: AsyncExitStack) -> Profile:
    """A private workspace, where the back end has none of its own to give."""
    if profile.workdir is not None or backend.name in _WITH_WORKSPACE:
        return profile
    folder = Path(tempfile.mkdtemp(prefix="corral-sandbox-"))
    resources.callback(shutil.rmtree, folder, ignore_errors=True)
    grants = (*profile.grants, Grant(folder, writable=True))
    return replace(profile, grants=grants, workdir=folder)


def _scratch(profile: Profile, wanted: Profile) -> list[str]:
    """What was made for this sandbox, and is to be removed also if this process is killed."""
    made = []
    if profile.workdir != wanted.workdir:
        made.append(str(profile.workdir))
    if profile.proxy != wanted.proxy and profile.proxy is not None:
        made.append(str(profile.proxy.parent))
    return made


def _files(profile: Profile, ready: Ready) -> LocalFiles:
    """The files of the granted workspace, or of the private one that the guest works in."""
    if ready.folder is None and profile.workdir is None:
        raise SandboxError("The sandbox has no workspace.", hint="Name a folder for it.")
    folder = ready.folder
    if profile.workdir is not None:
        folder = os.open(profile.workdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    assert folder is not None
    try:
        return LocalFiles(folder)
    finally:
        os.close(folder)
        if ready.folder is not None and ready.folder != folder:
            os.close(ready.folder)


async def _read_errors(said: Capture, resources: AsyncExitStack) -> int:
    """A pipe for what goes wrong inside; its end to write to."""
    source, sink = os.pipe()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: Output(said.add), os.fdopen(source, "rb", buffering=0)
    )
    resources.callback(transport.close)
    return sink


async def _greeting(control: Control, started: Started, said: Capture) -> Ready:
    greeting = asyncio.create_task(control.ready())
    ended = asyncio.create_task(started.wait())
    try:
        await asyncio.wait({greeting, ended}, timeout=_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if greeting.done() and greeting.exception() is None:
            return greeting.result()
        started.kill()
        await ended
        words = said.text().strip() or f"it was not ready after {_SECONDS:g} s"
        raise SandboxError(f"The sandbox does not start: {words}", hint="See corral doctor.")
    finally:
        greeting.cancel()
        ended.cancel()


async def _end(started: Started) -> None:
    started.kill()
    await started.wait()
