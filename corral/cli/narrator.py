"""Tells a run's events to a person, as they come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import assert_never

from corral.cli.output import clean, one_line
from corral.cli.preview import call_text, duration
from corral.cli.screen import Screen
from corral.runtime.events import (
    ApprovalRequested,
    Event,
    ModelFinished,
    Notice,
    Placed,
    ReasoningDelta,
    RunFinished,
    RunStarted,
    TextDelta,
    ToolCallDelta,
    ToolFinished,
    ToolStarted,
)
from corral.runtime.views import RunResult

_SHOWN_OF_CALL = 60
"""Characters of a call in the making that are shown."""

_NAMES = 3
"""How many of the calls under way are named beside the spinner."""


class Narrator:
    """Shows events on a screen and remembers which run they belong to.

    ``started`` is the run's first event and ``result`` its last one's result, ``None`` until
    they came. What a model thinks before it answers is shown if ``reasoning`` is set.
    """

    def __init__(self, screen: Screen, *, reasoning: bool = False) -> None:
        self.started: RunStarted | None = None
        self.result: RunResult | None = None
        self._screen = screen
        self._said = ""
        self._last = ""
        self._calls: list[str] = []
        self._reasoning = reasoning
        self._thoughts = ""
        self._writing = ""
        self._progress = ""

    def tell(self, event: Event) -> None:
        """Show one event."""
        match event:
            case RunStarted():
                self.started = event
                self._wait()
            case ReasoningDelta():
                self._think(event)
            case TextDelta() | ToolCallDelta() | ModelFinished():
                self._end_thoughts()
                self._answer(event)
            case ToolStarted():
                self._calls.append(event.name)
                call = call_text(event.name, event.args)
                self._screen.line(f"{_who(event)}→ {call}", style="cyan")
                self._wait()
            case ToolFinished():
                self._tool_finished(event)
            case Notice():
                self._notice(event)
            case ApprovalRequested():
                pass  # all questions are asked together, when the run has paused
            case RunFinished():
                self._finished(event.result)
            case _:
                assert_never(event)

    def _answer(self, event: TextDelta | ToolCallDelta | ModelFinished) -> None:
        match event:
            case TextDelta():
                self._text(event)
            case ToolCallDelta():
                self._write(event)
            case ModelFinished():
                self._writing = ""
                self._model_finished(event)

    def _wait(self) -> None:
        self._screen.busy(self._doing)

    def _doing(self) -> str:
        """What goes on, beside the spinner."""
        if self._progress:
            return self._progress
        if self._writing:
            return f"writing {one_line(self._writing, _SHOWN_OF_CALL)}"
        if self._thoughts:
            return f"thinking, {len(self._thoughts.split())} words so far"
        return _some(self._calls) or "thinking"

    def _notice(self, event: Notice) -> None:
        """A line, or beside the spinner how far something is that takes its time."""
        if event.done is None:
            self._screen.line(f"! {clean(event.text)}", style="yellow")
        if event.done is None or not self._progress:
            self._wait()
        is_over = event.done is None or event.done >= 1
        self._progress = "" if is_over else f"{event.text} {event.done:.0%}"

    def _think(self, event: ReasoningDelta) -> None:
        """A line at a time where it is shown, how much it is where it is not."""
        if _depth(event):
            return
        if not self._thoughts:
            self._wait()
        self._thoughts += event.text
        if not self._reasoning:
            return
        *lines, self._thoughts = self._thoughts.split("\n")
        for line in lines:
            self._screen.line(clean(line), style="dim italic")

    def _end_thoughts(self) -> None:
        if self._reasoning and self._thoughts.strip():
            self._screen.line(clean(self._thoughts), style="dim italic")
        self._thoughts = self._progress = ""

    def _write(self, event: ToolCallDelta) -> None:
        """The end of the call that the model is writing is shown beside the spinner."""
        if event.name:
            self._writing = f"{event.name}("
            self._wait()
        self._writing = (self._writing + event.args)[-_SHOWN_OF_CALL:]

    def _text(self, event: TextDelta) -> None:
        # A sub-agent's text is for the agent that asked for it: told in a line when it ends.
        if not _depth(event):
            self._said += event.text
            self._screen.text(event.text)

    def _model_finished(self, event: ModelFinished) -> None:
        if _depth(event) or not event.aloud:
            if event.text:
                who = _who(event) or "  "
                self._screen.line(f"{who}{one_line(event.text, 100)}", style="dim")
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
        line = f"{_who(event)}{mark} {clean(event.name)}  {took}  {summary}"
        self._screen.line(line, style=style)
        self._wait()

    def _finished(self, result: RunResult) -> None:
        self.result = result
        output = result.output.strip()
        if output and not any(_holds(shown, output) for shown in (self._said, self._last)):
            self._screen.text(result.output)  # recalled from the journal, so never streamed
        self._screen.idle()


def _holds(shown: str, output: str) -> bool:
    """Whether an output was shown: word for word, or the same value of an agent's ``returns``."""
    if output in shown:
        return True
    if not output.startswith(("{", "[")):
        return False
    try:
        return bool(json.loads(shown) == json.loads(output))
    except (ValueError, RecursionError):
        return False


def _depth(event: Placed) -> int:
    """How many agents stand between the one that the user asked and the one that did this."""
    return max(0, len(event.agents) - 1)


def _who(event: Placed) -> str:
    """The beginning of a line about what a sub-agent did: as deep as it is, and its name."""
    depth = _depth(event)
    return f"{'  ' * depth}{clean(event.agent)} " if depth else ""


def _some(names: Sequence[str]) -> str:
    """A few names, and how many more there are."""
    more = len(names) - _NAMES
    shown = ", ".join(names[:_NAMES])
    return f"{shown} and {more} more" if more > 0 else shown
