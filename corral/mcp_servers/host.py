"""``python -m corral.mcp_servers.host``: the process in which the runs of clients live.

Started by whoever needs it first (``corral.agents.hosting.place.connect``), in their environment.
What it says as it starts is one line of JSON on standard output: ``{"socket": …}`` when it serves,
``{}`` when another one does, ``{"error": …}`` when it cannot. After that it writes to its log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import signal
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import structlog

from corral.agents.app import open as open_corral
from corral.agents.hosting.endpoint import Endpoint
from corral.agents.hosting.host import Host, Lock
from corral.agents.hosting.local import LocalRuns
from corral.agents.hosting.place import Place, find_place
from corral.errors import CorralError
from corral.jsontypes import JsonObject
from corral.mcp_servers.agents.service import AgentService, Offering, Waits
from corral.mcp_servers.serving.layer import Layer
from corral.mcp_servers.serving.security import shared_key
from corral.mcp_servers.serving.stdio import serve_stream
from corral.policies.redaction import Redactor
from corral.runtime.config import Settings, load_settings
from corral.runtime.secrets import redactor_of

_AGENTS = "agents"


def main(args: Sequence[str] | None = None) -> int:
    """Serve until nobody needs it; the exit code."""
    flags = _parsed(args)
    place = find_place(flags.home, flags.workspace, flags.config)
    given = {name: value for name, value in vars(flags).items() if value is not None}
    try:
        lock = Lock(place)
        if not lock.is_mine:
            _say({})
            return 0
        settings = load_settings(given)
        _log_without_secrets(redactor_of(settings))
        asyncio.run(_serve(place, lock, settings))
    except CorralError as error:
        _say({"error": {"message": error.message, "hint": error.hint}})
        return error.exit_code
    return 0


def _parsed(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="corral run host")
    for name in ("home", "workspace", "config"):
        parser.add_argument(f"--{name}", type=Path)
    return parser.parse_args(args)


async def _serve(place: Place, lock: Lock, settings: Settings) -> None:
    async with open_corral(settings) as corral, LocalRuns.open(corral, place.account) as runs:
        serving = {"runs": _serve_runs, "mcp": _Layers(settings, runs).serve}
        host = Host(place, lock, runs, serving, settings.serve.idle)
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, host.leave)
        await host.serve(lambda: _say({"socket": str(place.socket)}))
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


def _say(line: JsonObject) -> None:
    """Tell who has started this process how it is; from then on it writes to its log only."""
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    os.dup2(2, 1)


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


if __name__ == "__main__":
    sys.exit(main())
