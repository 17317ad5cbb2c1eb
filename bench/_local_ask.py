"""What the sides of ``bench/local.py`` are asked, and what they tell of their answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

TEMPERATURE, TOP_P, TOP_K, MIN_P = 0.7, 0.95, 40, 0.05

Message = dict[str, str]


@dataclass(frozen=True)
class Setup:
    """What all sides are opened with. ``context`` is in tokens, for each of ``slots`` answers.

    ``draft`` is how Corral guesses ahead, ``states`` the folder where it keeps what it has read.
    """

    model: str
    threads: int
    gpu_layers: int
    context: int
    slots: int
    draft: str = "none"
    states: str | None = None


@dataclass(frozen=True)
class Ask:
    """One request; ``schema`` is a JSON Schema for the answer, ``seed`` below 0 is greedy.

    ``slot`` is where the server makes the answer; -1 leaves the choice to it.
    """

    messages: list[Message]
    tokens: int
    seed: int = 1
    conversation: str = ""
    schema: dict[str, Any] | None = None
    slot: int = -1


@dataclass(frozen=True)
class Answer:
    """When it was asked for, began and ended, on the machine's monotonic clock in seconds.

    ``made`` counts the answer's tokens, ``evaluated`` those of the prompt that were in no cache.
    """

    start: float
    first: float
    end: float
    made: int
    evaluated: int
    text: str

    @property
    def wait(self) -> float:
        """Seconds to the first token."""
        return self.first - self.start

    @property
    def rate(self) -> float:
        """Tokens in a second after the first."""
        return (self.made - 1) / max(self.end - self.first, 1e-9)


class Side(Protocol):
    """One of those that are compared, with the model loaded."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int:
        """The process that the model runs in."""
        ...

    async def ask(self, ask: Ask) -> Answer: ...

    async def close(self) -> None: ...
