"""The terminal while a run goes on: streamed text, lines beside it, and a spinner between them."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from corral.cli.output import clean, console
from corral.cli.preview import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_ERASE_LINE = "\r\x1b[K"


class Screen:
    """Where a run is told: the answer's text on one stream, everything else on another.

    ``corral run`` keeps them apart (standard output and standard error), so that a pipe gets
    the answer alone; the REPL puts both on standard output. The spinner runs only on a terminal.
    """

    def __init__(self, text: TextIO | None = None, lines: TextIO | None = None) -> None:
        self._text = text or sys.stdout
        self._lines = lines or sys.stderr
        self._console = console(self._lines)
        self._animate = self._lines.isatty() and os.environ.get("TERM") != "dumb"
        self._mid_line = False
        self._spinner: asyncio.Task[None] | None = None
        self._label: Callable[[], str] = str
        self._since = 0.0

    def text(self, piece: str) -> None:
        """A piece of the answer, cleaned, shown at once."""
        if not piece:
            return
        self._stop_spinner()
        self._text.write(clean(piece))
        self._text.flush()
        self._mid_line = not piece.endswith("\n")

    def end_text(self) -> None:
        """End the answer's line, if one is open."""
        if self._mid_line:
            self.text("\n")

    def line(self, *parts: RenderableType, style: str = "") -> None:
        """A line beside the answer: text that is clean already, or something that Rich draws."""
        self._stop_spinner()
        if self._mid_line and self._text.isatty():
            self.end_text()
        plain = all(isinstance(part, str) for part in parts)
        self._console.print(*parts, style=style or None, soft_wrap=plain)

    def busy(self, label: Callable[[], str]) -> None:
        """Turn the spinner, with what ``label`` gives, until something else is shown."""
        self._label = label
        self._since = time.monotonic()
        if self._animate and not self._mid_line and self._spinner is None:
            self._spinner = asyncio.get_running_loop().create_task(self._spin())

    def idle(self) -> None:
        """Stop the spinner and end an open line: someone else writes now."""
        self._stop_spinner()
        self.end_text()

    async def _spin(self) -> None:
        turn = 0
        while True:
            passed = duration((time.monotonic() - self._since) * 1000)
            frame = FRAMES[turn % len(FRAMES)]
            self._lines.write(f"{_ERASE_LINE}{frame} {clean(self._label())}  {passed}")
            self._lines.flush()
            turn += 1
            await asyncio.sleep(0.12)

    def _stop_spinner(self) -> None:
        if self._spinner is None:
            return
        self._spinner.cancel()
        self._spinner = None
        self._lines.write(_ERASE_LINE)
        self._lines.flush()
