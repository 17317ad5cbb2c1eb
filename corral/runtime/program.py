"""What the engine runs: a graph, how a prompt goes in and how an answer comes out.

The runtime knows no agent. An agent gives it one of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langgraph.graph import StateGraph

from corral.memory.labelled import labelled
from corral.runtime.context import current_label

State = dict[str, Any]


class Program(Protocol):
    """A graph that can be started, resumed in another process, and replayed."""

    @property
    def name(self) -> str:
        """The agent's name."""
        ...

    @property
    def model(self) -> str:
        """The reference of the agent's model."""
        ...

    @property
    def version(self) -> str:
        """Changes when stored runs of this graph can no longer be continued."""
        ...

    async def prepare(self) -> None:
        """Look up what the graph works with, before its first node. Awaited inside of the run."""
        ...

    async def admit(self, prompt: str) -> str:
        """The prompt as the agent's checks let it in. Raises ``CheckFailed``.

        Awaited inside of the run.
        """
        ...

    def graph(self) -> StateGraph[Any, Any, Any, Any]:
        """The graph, not yet compiled."""
        ...

    def initial(self, prompt: str, run: str) -> State:
        """The state update that a prompt is."""
        ...

    def output(self, state: State) -> str:
        """The answer in a state, complete or not."""
        ...

    def check_complete(self, turns: int) -> None:
        """Called when the graph has ended after ``turns`` model calls; may raise ``RunError``."""
        ...


def asked(prompt: str, run: str) -> HumanMessage:
    """A prompt as a message: with an id that stays, and the label of who asks for it here."""
    return labelled(HumanMessage(prompt, id=f"{run}:prompt"), current_label.get())


def with_before(state: State, messages: Sequence[BaseMessage]) -> State:
    """The state update of a prompt with messages before it: of its files, or a conversation."""
    return {**state, "messages": [*messages, *state["messages"]]} if messages else state


def last_answer(messages: Sequence[BaseMessage]) -> str:
    """The text of the newest answer since the user's last message."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            break
        if isinstance(message, AIMessage) and message.text:
            return str(message.text)
    return ""
