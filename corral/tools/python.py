"""The ``python`` server's part on the host: its settings, and packages installed when asked for."""

from __future__ import annotations

import asyncio

from corral.errors import CorralError, ToolServerError
from corral.jsontypes import JsonObject
from corral.sandbox.contract import Grant, LocalBackend
from corral.tools.addition import Addition, Basis
from corral.tools.contract import CallOptions, ToolProvider, ToolResult, ToolSpec
from corral.tools.packages import Layer, PackageStore, permitted
from corral.tools.settings import BuiltinSettings

INSTALL = "install_packages"


def python_addition(settings: BuiltinSettings) -> Addition:
    """What the server is told and granted: the packages that are installed by now."""
    python, home = settings.python, settings.packages_home
    config: JsonObject = {
        "warm": python.warm,
        "preload": list(python.preload),
        "allowed": list(python.allowed_packages),
    }
    if home is None:
        return Addition(config)
    home.mkdir(parents=True, exist_ok=True)
    layer = PackageStore(home).find(python.packages) if python.packages else None
    config |= {"packages_home": str(home), "packages": str(layer.folder) if layer else ""}
    basis = Basis(contents=(home,) if python.packages else ())
    return Addition(config, grants=(Grant(home),), basis=basis)


class PythonProvider:
    """The ``python`` server, with its packages installed on the host: a ``ToolProvider``.

    A call of ``install_packages`` is checked against the allow-list here and carried out here,
    into a layer that the running server then sees; so sessions keep their state.
    """

    def __init__(
        self, server: ToolProvider, settings: BuiltinSettings, backend: LocalBackend
    ) -> None:
        self._server = server
        self._settings = settings.python
        home = settings.packages_home
        self._store = None if home is None else PackageStore(home)
        self._backend = backend
        self._in_use: tuple[str, ...] = settings.python.packages
        self._installing = asyncio.Lock()
        self._ready = False

    @property
    def name(self) -> str:
        """``python``."""
        return self._server.name

    async def list_tools(self) -> list[ToolSpec]:
        """The server's tools; the packages of the settings are installed first."""
        await self._prepare()
        return await self._server.list_tools()

    async def call(self, tool: str, args: JsonObject, options: CallOptions) -> ToolResult:
        """Call one tool. See ``ToolProvider``."""
        await self._prepare()
        if tool != INSTALL:
            return await self._server.call(tool, args, options)
        async with self._installing:
            try:
                wanted = permitted(_names(args), self._settings.allowed_packages)
                layer = await self._install((*self._in_use, *wanted), options)
            except CorralError as error:
                return ToolResult(f"Nothing was installed: {error}", is_error=True)
            self._in_use = layer.requested
            return await self._server.call(tool, {"packages": list(wanted)}, options)

    async def aclose(self) -> None:
        """Stop the server."""
        await self._server.aclose()

    async def _prepare(self) -> None:
        if self._ready or not self._settings.packages:
            return
        async with self._installing:
            if not self._ready:
                await self._install(self._settings.packages, CallOptions(""))
                self._ready = True

    async def _install(self, requests: tuple[str, ...], options: CallOptions) -> Layer:
        if self._store is None:
            raise ToolServerError(
                "There is no folder to install packages into.",
                hint="Open Corral with a home folder.",
            )
        said: asyncio.Queue[str] = asyncio.Queue()
        telling = asyncio.create_task(_tell_all(said, options))
        try:
            return await self._store.install(requests, self._backend, said.put_nowait)
        finally:
            telling.cancel()


async def _tell_all(said: asyncio.Queue[str], options: CallOptions) -> None:
    done = 0
    while options.progress is not None:
        line = await said.get()
        done += 1
        await options.progress(float(done), None, line)


def _names(args: JsonObject) -> list[str]:
    """The names that were asked for; what is no list of texts the server itself refuses."""
    names = args.get("packages")
    given = names if isinstance(names, list) else []
    return [name for name in given if isinstance(name, str)]
