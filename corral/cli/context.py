"""The global options, and what every command makes of them: settings and follow-up commands."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from corral.cli.output import note

if TYPE_CHECKING:
    from corral.agents.app import Corral
    from corral.runtime.config import Settings
    from corral.runtime.records import Records

T = TypeVar("T")


@dataclass(frozen=True)
class Globals:
    """The options before the command's name; ``None`` leaves the configured value."""

    home: Path | None = None
    workspace: Path | None = None
    config: Path | None = None

    def settings(self, **flags: Any) -> Settings:
        """The settings, with these options and ``flags`` over everything else.

        A flag that is ``None`` was not given. Raises ``ConfigError``.
        """
        from corral.runtime.config import load_settings  # pydantic: not needed for --help

        given = {"home": self.home, "workspace": self.workspace, "config": self.config, **flags}
        return load_settings({key: value for key, value in given.items() if value is not None})

    def command(self, *words: str) -> str:
        """The command line that a user would type to run ``corral WORDS`` on the same state."""
        options = (
            ("--home", self.home),
            ("--workspace", self.workspace),
            ("--config", self.config),
        )
        prefix = [part for flag, value in options if value for part in (flag, str(value))]
        return shlex.join(["corral", *prefix, *words])


_current: ContextVar[Globals] = ContextVar("corral_cli_globals")


def set_current(options: Globals) -> None:
    """Keep the global options for the command that runs now."""
    _current.set(options)


def current() -> Globals:
    """The global options of the command that runs now."""
    return _current.get(Globals())


def debugging() -> bool:
    """Whether ``CORRAL_DEBUG`` asks for tracebacks and logs."""
    return os.environ.get("CORRAL_DEBUG", "") not in {"", "0"}


def wait(work: Coroutine[None, None, T]) -> T:
    """Run ``work`` in an event loop. Logs go to standard error, and only when one debugs."""
    import asyncio  # not needed for --help
    import logging

    if debugging():
        logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
    else:
        logging.getLogger().addHandler(logging.NullHandler())
    return asyncio.run(work)


def quiet_logs() -> None:
    """Keep structlog, which would print to standard output, out of what a command says."""
    import structlog  # with the runtime, not before

    lowest = "debug" if debugging() else "critical"
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(lowest),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def warn_if_unconfined(settings: Settings) -> None:
    """Say it where tools are about to run without a sandbox."""
    if settings.sandbox == "none":
        quiet_logs()
        note("warning: there is no sandbox: tools and the code they run can do what you can do")
        note('  Take out sandbox = "none" to have them isolated.')


@asynccontextmanager
async def closing(events: AsyncIterator[T]) -> AsyncIterator[AsyncIterator[T]]:
    """Iterate over ``events`` in the body; whatever happens there, they are closed at once."""
    try:
        yield events
    finally:
        if isinstance(events, AsyncGenerator):
            await events.aclose()


@asynccontextmanager
async def open_records() -> AsyncIterator[Records]:
    """The database of the current settings, for looking and answering: no graph is imported."""
    from corral.runtime import records  # SQLAlchemy: not needed for --help

    async with records.open_records(current().settings()) as opened:
        yield opened


@asynccontextmanager
async def open_runtime() -> AsyncIterator[Corral]:
    """The whole runtime on the current settings."""
    from corral.agents import app  # LangGraph: only where a run is made

    quiet_logs()
    async with app.open(current().settings()) as opened:
        yield opened
