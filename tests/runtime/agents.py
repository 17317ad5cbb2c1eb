"""Scripted agents over in-process tools: the shortest way through the whole runtime."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

import corral
from corral.runtime.events import Event, RunFinished
from corral.runtime.models.contract import Chunk, ModelRequest
from corral.runtime.views import RunResult

Turn = Mapping[str, Any]


def turn(text: str = "", **calls: Any) -> Turn:
    """A turn that says ``text`` and calls ``functions__NAME`` for each keyword."""
    made = [{"name": f"functions__{name}", "args": args} for name, args in calls.items()]
    return {"text": text, "tool_calls": made}


def result_of(events: Sequence[Event]) -> RunResult:
    """How a run ended that was streamed to its end."""
    last = events[-1]
    assert isinstance(last, RunFinished)
    return last.result


def scripted(turns: Sequence[Turn], *functions: Callable[..., Any], **fields: Any) -> corral.Agent:
    """An agent that answers with ``turns`` and has only ``functions`` for tools."""
    model = corral.ScriptedModel(turns)
    return corral.Agent(functions=functions, servers=(), chat_model=model, **{"facts": 0, **fields})


class Listening(corral.ScriptedModel):
    """A scripted model that keeps the text of every prompt that it is asked."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        super().__init__(turns)
        self.heard: list[str] = []

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Keep the prompt, and answer as the script says."""
        self.heard.append("\n".join(str(message.content) for message in request.messages))
        return super().stream(request)


class Ledger:
    """A tool with an effect (``pay``) and one without (``balance``), and what really happened."""

    def __init__(self) -> None:
        self.paid: list[int] = []

    def tools(self) -> tuple[Callable[..., Any], ...]:
        """Both tools."""

        def pay(amount: int) -> str:
            """Pay an amount."""
            self.paid.append(amount)
            return f"paid {amount}"

        @corral.tool(read_only=True)
        def balance() -> int:
            """How much has been paid."""
            return sum(self.paid)

        return pay, balance
