"""Opens the runtime while the user types the first prompt.

The graph engine and the model libraries take over a second to import. They are imported in
another thread, then one task of its own enters and leaves the runtime's context.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, cast

from corral.cli.context import quiet_logs

if TYPE_CHECKING:
    from corral.agents.app import Corral
    from corral.runtime.config import Settings


class BackgroundRuntime:
    """A runtime that is being opened; ``get`` waits for it."""

    def __init__(self, settings: Settings, *, agent: str | None, model: str | None) -> None:
        self._settings = settings
        self._agent = agent
        self._model = model
        self._ready: asyncio.Future[Corral] = asyncio.get_running_loop().create_future()
        self._closing = asyncio.Event()
        self._owner = asyncio.create_task(self._own())

    async def get(self) -> Corral:
        """The open runtime. Raises what opening it raised; may be cancelled and called again."""
        return await asyncio.shield(self._ready)

    @property
    def failed(self) -> bool:
        """Whether opening it has failed, so that waiting for it is of no use."""
        return self._ready.done() and self._ready.exception() is not None

    async def close(self) -> None:
        """Close the runtime, with its servers and its model."""
        self._closing.set()
        await self._owner

    async def _own(self) -> None:
        try:
            module = await asyncio.to_thread(importlib.import_module, "corral.agents.app")
            if self._closing.is_set():
                return
            quiet_logs()
            async with module.open(self._settings) as corral:
                corral.warm(module.RunOptions(agent=self._agent, model=self._model))
                self._ready.set_result(cast("Corral", corral))
                await self._closing.wait()
        except BaseException as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)
            self._ready.exception()  # marked as seen: get() raises it, if anyone asks
