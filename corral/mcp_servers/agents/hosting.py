"""What the run host serves: runs for processes that serve clients, and clients by their bridges."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

from corral.agents.app import open as open_corral
from corral.agents.hosting.endpoint import Endpoint
from corral.agents.hosting.host import Host
from corral.agents.hosting.local import LocalRuns
from corral.agents.hosting.lock import Lock
from corral.agents.hosting.place import Place
from corral.jsontypes import JsonObject
from corral.mcp_servers.agents.service import AgentService, Offering, Waits
from corral.mcp_servers.serving.layer import Layer
from corral.mcp_servers.serving.security import shared_key
from corral.mcp_servers.serving.stdio import serve_stream
from corral.policies.redaction import Redactor
from corral.runtime.config import Settings
from corral.runtime.secrets import redactor_of

_AGENTS = "agents"

Ready = Callable[[], None]
"""Is called when the host listens."""


def serve(place: Place, lock: Lock, settings: Settings, ready: Ready) -> None:
    """Serve until nobody needs it. Raises ``ConfigError`` and ``StorageError``."""
    _log_without_secrets(redactor_of(settings))
    asyncio.run(_serve(place, lock, settings, ready))


async def _serve(place: Place, lock: Lock, settings: Settings, ready: Ready) -> None:
    async with open_corral(settings) as corral, LocalRuns.open(corral, place.account) as runs:
        serving = {"runs": _serve_runs, "mcp": _Layers(settings, runs).serve}
        host = Host(place, lock, runs, serving, settings.serve.idle)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, host.leave)
        await host.serve(ready)
        await host.drain()


async def _serve_runs(
    runs: LocalRuns, reader: StreamReader, writer: StreamWriter, _hello: JsonObject
) -> None:
    await Endpoint(runs, reader, writer).serve()


class _Layers:
    """What bridges' clients are served by: one for each thing that can be served."""

    def __init__(self, settings: Settings, runs: LocalRuns) -> None:
        self._settings = settings
        self._runs = runs
        self._made: dict[str, Layer] = {}

    async def serve(
        self, _runs: LocalRuns, reader: StreamReader, writer: StreamWriter, hello: JsonObject
    ) -> None:
        """Serve the client of one bridge."""
        await serve_stream(self._layer(str(hello.get("serve", _AGENTS))), reader, writer)

    def _layer(self, what: str) -> Layer:
        if what not in self._made:
            serve = self._settings.serve
            service = AgentService(self._runs, Offering.of(what), Waits(usual=serve.wait))
            self._made[what] = Layer(service, shared_key(self._settings.home), serve.calls)
        return self._made[what]


def _log_without_secrets(redactor: Redactor) -> None:
    """Log as JSON, with every secret that this process knows taken out."""

    def clean(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> JsonObject:
        found = redactor.json(json.loads(json.dumps(dict(event), default=str)))
        assert isinstance(found, dict)
        return found

    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            clean,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Redacted(redactor))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


class _Redacted(logging.Formatter):
    """What libraries log, without secrets."""

    def __init__(self, redactor: Redactor) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")
        self._redactor = redactor

    def format(self, record: logging.LogRecord) -> str:
        """One record as text."""
        return self._redactor.text(super().format(record))
