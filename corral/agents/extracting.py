"""Values from a prompt: a run of its own whose answer is of a Python type.

class Invoice(BaseModel):
    number: str
    total: float

async with corral.open() as c:
    invoice = await corral.extract(c, Invoice, "Invoice 17: two chairs, 120 euros in all.")
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from langgraph.graph import START, MessagesState, StateGraph

from corral.agents.app import Corral
from corral.agents.kit import Kit
from corral.agents.options import RunOptions
from corral.agents.spec import Agent
from corral.errors import RunError
from corral.runtime.models.structured import Shape

T = TypeVar("T")

NAME = "extract"
"""The agent of such runs, where the caller names none."""


async def extract(
    corral: Corral, returns: type[T], prompt: str, options: RunOptions = RunOptions()
) -> T:
    """A value of the type ``returns`` that a model makes of ``prompt``.

    ``returns`` is a pydantic model, or another type that pydantic validates. Of ``options.agent``,
    if it is an ``Agent``, the model, the instructions, the limits and the checks count; it is
    offered no tools. Raises ``UsageError`` for a type without a JSON Schema and ``RunError`` when
    the run does not complete; what it has done is kept and can be resumed.
    """
    shape: Shape[T] = Shape.of(returns)
    result = await corral.run(prompt, options_for(shape, options))
    if result.status != "completed":
        raise RunError(
            f"The run {result.run} is {result.status}: {result.error or 'it waits for an answer'}",
            hint=f"See what happened with `corral trace {result.run}`.",
        )
    return shape.read(result.output)


def options_for(shape: Shape[Any], options: RunOptions = RunOptions()) -> RunOptions:
    """The options of a run that extracts, as ``resume`` and ``replay`` need them too."""
    own = options.agent if isinstance(options.agent, Agent) else Agent(name=NAME)
    update = {"graph": _graph(shape), "servers": (), "functions": (), "agents": (), "returns": None}
    return replace(options, agent=own.model_copy(update=update))


def _graph(shape: Shape[Any]) -> Any:
    def build(kit: Kit) -> StateGraph[Any, Any, Any, Any]:
        async def answer(state: MessagesState) -> MessagesState:
            return {"messages": [(await kit.extract(state["messages"], shape)).message]}

        graph = StateGraph(MessagesState)
        graph.add_node("answer", answer)
        graph.add_edge(START, "answer")
        return graph

    return build
