"""The proxy of one sandbox: sockets in a private folder, behind which the rules are kept.

Each sandbox has a proxy of its own, so what comes over its sockets is that sandbox's, and nobody
has to prove who they are.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from stat import S_ISDIR
from types import TracebackType
from typing import Self

import structlog

from corral.sandbox.network.hosts import canonical_host
from corral.sandbox.network.http import Client
from corral.sandbox.network.inside import CERTIFICATES, PROXY_SOCKET, forward_socket
from corral.sandbox.network.judge import RefusedError, Wanted
from corral.sandbox.network.rules import Forward
from corral.sandbox.network.streams import CHUNK, Handler, SocketStream
from corral.sandbox.network.tls import Authority
from corral.sandbox.network.ways import Ways, splice

_FOLDERS = "corral-network-"
_LONGEST_BASE = 60  # bytes

log = structlog.get_logger()


class Proxy:
    """An async context manager: inside of it the sockets are there, afterwards nothing is left.

    ``handlers`` speak for forwarded ports (by their port inside) instead of passing bytes on.
    """

    def __init__(self, ways: Ways, handlers: Mapping[int, Handler] | None = None) -> None:
        self._ways = ways
        self._handlers = handlers or {}
        self._authority: Authority | None = None
        self._folder: Path | None = None
        self._servers: list[asyncio.Server] = []
        self._clients: set[asyncio.Task[None]] = set()

    @property
    def socket(self) -> Path:
        """The HTTP proxy's socket; those of the forwards and the certificates stand beside it."""
        assert self._folder is not None
        return self._folder / PROXY_SOCKET

    async def __aenter__(self) -> Self:
        _sweep()
        self._folder = Path(tempfile.mkdtemp(prefix=_FOLDERS, dir=_base()))
        if self._ways.network.inspects:
            self._authority = Authority()
            (self._folder / CERTIFICATES).write_bytes(self._authority.trusted())
        await self._listen(PROXY_SOCKET, self._http)
        for forward in self._ways.network.forwards:
            await self._listen(forward_socket(forward.inside_port), self._forwarder(forward))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for server in self._servers:
            server.close()
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    async def _listen(self, name: str, serve: Callable[[SocketStream], Awaitable[None]]) -> None:
        assert self._folder is not None

        def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stream = SocketStream(reader, writer, self._ways.bounds.idle)
            if len(self._clients) >= self._ways.bounds.clients:
                stream.close()
                return
            task = asyncio.create_task(self._served(serve, stream))
            self._clients.add(task)
            task.add_done_callback(self._clients.discard)

        path = self._folder / name
        server = await asyncio.start_unix_server(accepted, path, limit=CHUNK)
        path.chmod(0o600)
        self._servers.append(server)

    async def _served(
        self, serve: Callable[[SocketStream], Awaitable[None]], stream: SocketStream
    ) -> None:
        try:
            await serve(stream)
        except Exception as error:  # noqa: BLE001  a hostile client must not end the others
            log.warning("proxy_client_failed", error=repr(error))
        finally:
            stream.close()

    async def _http(self, stream: SocketStream) -> None:
        await Client(stream, self._ways, self._authority).serve()

    def _forwarder(self, forward: Forward) -> Callable[[SocketStream], Awaitable[None]]:
        wanted = Wanted("tcp", canonical_host(forward.host), forward.port, "TCP")
        handler = self._handlers.get(forward.inside_port)

        async def serve(stream: SocketStream) -> None:
            try:
                async with self._ways.opened(wanted, private=forward.private) as (service, record):
                    if handler is not None:
                        await handler(stream, service, record)
                    else:
                        await splice(stream, service, record, self._ways.bounds)
            except RefusedError as refusal:
                log.warning("forward_refused", host=forward.host, reason=str(refusal))
            except OSError:
                return  # one of both went away

        return serve


def _base() -> Path:
    """Where the folders are made: a socket's whole path has room for some 100 characters."""
    base = Path(tempfile.gettempdir())
    return base if len(os.fsencode(base)) <= _LONGEST_BASE else Path("/tmp")  # noqa: S108  # the folder in it is private


def _sweep() -> None:
    """Remove the folders of proxies whose process was killed: nobody listens there any more."""
    for folder in _base().glob(f"{_FOLDERS}*"):
        with suppress(OSError):
            status = folder.lstat()
            mine = S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
            if mine and _is_deserted(folder / PROXY_SOCKET):
                shutil.rmtree(folder, ignore_errors=True)


def _is_deserted(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False
