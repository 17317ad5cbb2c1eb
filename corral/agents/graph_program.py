"""An agent with a graph of its own, or a pattern's, as the engine runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from langgraph.graph import StateGraph

from corral.agents.kit import Kit
from corral.runtime.calls import prepare
from corral.runtime.checking import admitted
from corral.runtime.nested import scoped
from corral.runtime.program import State, asked, last_answer


@dataclass(frozen=True)
class GraphProgram:
    """An agent whose graph is built from its kit, ready for the engine.

    Its state has ``messages``, as LangGraph's ``MessagesState``: the prompt is the first new one,
    and the last text of the model's is the answer. ``fresh`` are further values that each run
    begins with.
    """

    kit: Kit
    build: Callable[[Kit], StateGraph[Any, Any, Any, Any]]
    version: str
    fresh: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The agent's name."""
        return self.kit.agent.name

    @property
    def model(self) -> str:
        """The reference of the agent's model."""
        return self.kit.services.model_ref

    async def prepare(self) -> None:
        """See ``Program.prepare``: before a node can ask for several things at once."""
        await prepare(self.name, self.model, self.kit.services)

    async def admit(self, prompt: str) -> str:
        """See ``Program.admit``."""
        return await admitted(prompt, self.kit.services.checks)

    def graph(self) -> StateGraph[Any, Any, Any, Any]:
        """The graph, with every graph inside of it invoked through the door."""
        return scoped(self.build(self.kit))

    def initial(self, prompt: str, run: str) -> State:
        """The user's message, with an id that is the same however often the run starts."""
        return {**self.fresh, "messages": [asked(prompt, run)]}

    def output(self, state: State) -> str:
        """The text of the newest answer since the user's last message."""
        answer = last_answer(state.get("messages", ()))
        typed = self.kit.agent.typed
        return typed.settle(answer)[0] if typed else answer

    def check_complete(self, turns: int) -> None:
        """A scripted model with turns left over raises here."""
        self.kit.services.model.check_complete(turns)
