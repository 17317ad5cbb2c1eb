"""What a supervisor is told and what it keeps in mind."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from langchain_core.messages import AIMessage, AnyMessage
from pydantic import Field

from corral.agents.handoff import first
from corral.agents.history import History
from corral.agents.patterns.options import Options
from corral.agents.patterns.state import EMPTY, PatternState, gathered
from corral.jsontypes import JsonObject
from corral.runtime.engine import PARALLEL_TASKS


class SupervisorOptions(Options):
    """The options of a supervisor."""

    routing: Literal["tools", "decision"] = Field(
        default="tools",
        description="How the coordinator says who works: by tool calls, or by a structured "
        "decision at a time, for models that are bad at calling tools.",
    )
    handoffs: bool = Field(
        default=False, description="Whether a worker can also take over: its answer is the user's."
    )
    answer: Literal["coordinator", "worker"] = Field(
        default="coordinator",
        description="Whose words the answer is: the coordinator's, or those of the last worker.",
    )
    history: History = Field(default="task", description="What workers see of the conversation.")
    parallel: int = Field(
        default=PARALLEL_TASKS, ge=1, le=PARALLEL_TASKS, description="Workers at once."
    )
    rounds: int = Field(default=8, ge=1, le=100, description="Turns of the coordinator at most.")
    tasks: int = Field(default=32, ge=1, le=1000, description="Tasks that a run gives at most.")
    calls: int = Field(default=16, ge=1, le=100, description="Calls that one turn makes at most.")


class SupervisorState(PatternState, total=False):
    """``talk`` is what the coordinator has said and got in this run, in ``round`` turns.

    ``reports`` are the answers of the newest round's workers. ``answered`` is that of one who took
    over. ``handoff`` says who else is to take over, where the supervisor may let somebody.
    ``tasks`` counts those that were given, and ``asked`` is the newest one that was decided.
    """

    talk: Annotated[list[AnyMessage], gathered]
    reports: Annotated[list[AnyMessage], gathered]
    answered: AIMessage | None
    handoff: Annotated[JsonObject | None, first]
    asked: list[str]
    round: int
    tasks: int


FRESH: dict[str, Any] = {
    "talk": EMPTY,
    "reports": EMPTY,
    "answered": None,
    "asked": [],
    "round": 0,
    "tasks": 0,
}
