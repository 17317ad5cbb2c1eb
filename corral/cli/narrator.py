"""Tells a run's events to a person, as they come."""

from __future__ import annotations

from typing import assert_never

from corral.cli.output import clean, one_line
from corral.cli.preview import call_text, duration
from corral.cli.screen import Screen
from corral.runtime.events import (
    ApprovalRequested,
    Event,
    ModelFinished,
    Notice,
    RunFinished,
    RunStarted,
    TextDelta,
    ToolFinished,
    ToolStarted,
)
from corral.runtime.paths import places
from corral.runtime.views import RunResult


class Narrator:
    """Shows events on a screen and remembers which run they belong to.

    ``started`` is the run's first event and ``result`` its last one's result, ``None`` until
    they came.
    """

    def __init__(self, screen: Screen) -> None:
        self.started: RunStarted | None = None
        self.result: RunResult | None = None
        self._screen = screen
        self._said = ""
        self._last = ""
        self._calls: list[str] = []

    def tell(self, event: Event) -> None:
        """Show one event."""
        match event:
            case RunStarted():
                self.started = event
                self._wait()
            case TextDelta():
                self._text(event)
            case ModelFinished():
                self._model_finished(event)
            case ToolStarted():
                self._calls.append(event.name)
                indent = "  " * _depth(event.path)
                self._screen.line(f"{indent}→ {call_text(event.name, event.args)}", style="cyan")
                self._wait()
            case ToolFinished():
                self._tool_finished(event)
            case Notice():
                self._screen.line(f"! {clean(event.text)}", style="yellow")
                self._wait()
            case ApprovalRequested():
                pass  # all questions are asked together, when the run has paused
            case RunFinished():
                self._finished(event.result)
            case _:
                assert_never(event)

    def _wait(self) -> None:
        self._screen.busy(lambda: ", ".join(self._calls) or "thinking")

    def _text(self, event: TextDelta) -> None:
        # A sub-agent's text is for the agent that asked for it: told in a line when it ends.
        if not _depth(event.path):
            self._said += event.text
            self._screen.text(event.text)

    def _model_finished(self, event: ModelFinished) -> None:
        if depth := _depth(event.path):
            if event.text:
                self._screen.line(f"{'  ' * depth}{one_line(event.text, 100)}", style="dim")
            return
        if event.text and not self._said:
            self._screen.text(event.text)  # a model that answers in one piece
        self._said = self._last = event.text
        self._screen.end_text()
        self._wait()

    def _tool_finished(self, event: ToolFinished) -> None:
        if event.name in self._calls:
            self._calls.remove(event.name)
        mark, style = ("✗", "red") if event.is_error else ("←", "dim")
        summary = one_line(event.text, 100)
        took = duration(event.duration_ms)
        self._said = ""
        indent = "  " * _depth(event.path)
        self._screen.line(f"{indent}{mark} {clean(event.name)}  {took}  {summary}", style=style)
        self._wait()

    def _finished(self, result: RunResult) -> None:
        self.result = result
        output = result.output.strip()
        if output and output not in self._said and output not in self._last:
            self._screen.text(result.output)  # recalled from the journal, so never streamed
        self._screen.idle()


def _depth(path: str) -> int:
    """How many agents stand between the one that the user asked and the one that did this."""
    return len(places(path)) - 1
