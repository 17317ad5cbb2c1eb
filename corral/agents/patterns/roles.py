"""Who does a part of a pattern's work: the agent itself, or a sub-agent that an option names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.messages import BaseMessage, HumanMessage

from corral.agents.history import History
from corral.agents.kit import Kit, Report
from corral.agents.patterns.prompts import request
from corral.errors import InvalidAnswer
from corral.runtime.models.structured import Extracted, Shape

T = TypeVar("T")


@dataclass(frozen=True)
class Role:
    """A part in a pattern. ``name`` is the sub-agent that has it; empty for the agent itself.

    ``history`` is what a sub-agent sees of the conversation besides the request.
    """

    kit: Kit
    name: str = ""
    history: History = "nothing"

    async def write(self, messages: Sequence[BaseMessage], asked: HumanMessage) -> Report:
        """An answer, or a draft of one, made with tools. ``asked`` comes after the conversation.

        It has the type of the agent's answers, if those have one.
        """
        if self.name:
            return await self._work(messages, asked, self.kit.agent.returns)
        message = await self.kit.solve([*messages, asked], aloud=False)
        return Report(self.kit.agent.name, is_error=False, message=message)

    async def decide(
        self, messages: Sequence[BaseMessage], asked: HumanMessage, returns: type[T]
    ) -> T | None:
        """A decision; ``None`` when there is none that is valid."""
        extracted = await self.extract(messages, asked, returns)
        return extracted.value if extracted else None

    async def extract(
        self, messages: Sequence[BaseMessage], asked: HumanMessage, returns: type[T]
    ) -> Extracted[T] | None:
        """``decide``, with the message that it came in.

        Prompts that are made of texts in the decision have that message's label.
        """
        if self.name:
            report = await self._work(messages, asked, returns)
            value = report.value(returns)
            return None if value is None else Extracted(value, report.message)
        try:
            shape: Shape[T] = Shape.of(returns)
            return await self.kit.extract([*messages, asked], shape, purpose="decision")
        except InvalidAnswer:
            return None

    async def _work(
        self, messages: Sequence[BaseMessage], asked: HumanMessage, returns: Any
    ) -> Report:
        history = await self.kit.shown(self.history, messages)
        task = f"{request(messages)}\n\n{asked.text}"
        return await self.kit.work(self.name, task, history=history, returns=returns)
