"""Reflection: a draft, what is wrong with it, and a better draft, until a critic is content.

Self-Refine (Madaan et al. 2023, arXiv:2303.17651); Reflexion (Shinn et al. 2023, arXiv:2303.11366).

    START ─► draft ─► critique ─► answer ─► END
               ▲          │
               └─ points ─┘

It ends when a critique gives the ``threshold``, after ``rounds`` critiques, when ``patience`` of
them in a row were no better than the best, when a draft is the one before again, and at a critique
that cannot be read, since nothing is left to go on from. The answer is the draft with the best
score, the earlier of two that are equal; one without a score only where none has one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from pydantic import BaseModel, Field, StringConstraints

from corral.agents.history import History
from corral.agents.kit import Kit
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.options import Options
from corral.agents.patterns.prompts import framed, listed, prompt
from corral.agents.patterns.roles import Role
from corral.agents.patterns.state import PatternState
from corral.runtime.models.structured import Extracted

_CRITIQUE = (
    "Judge the draft of an answer to the request. Do not answer the request.\n"
    "Give a score from 0 (useless) to 1 (nothing to improve), and short points: what is wrong in "
    "the draft, and how to mend it."
)
_REVISE = (
    "Write the answer to the request again. Here are a draft and what is wrong with it. "
    "Mend every point, keep what is right, and give only the new answer."
)
_WRITE = "Answer the request."


class ReflectionOptions(Options):
    """The options of reflection."""

    rounds: int = Field(default=3, ge=1, le=20, description="Critiques at most.")
    threshold: float = Field(default=0.9, ge=0, le=1, description="The score that is good enough.")
    patience: int = Field(
        default=0,
        ge=0,
        le=20,
        description="Critiques in a row without a better score after which it ends; 0: no matter.",
    )
    criteria: str = Field(default="", description="What a good answer is, for the critic.")
    critic: str = Field(
        default="", description="The sub-agent that judges; the agent itself when left out."
    )
    generator: str = Field(
        default="", description="The sub-agent that writes; the agent itself when left out."
    )
    history: History = Field(
        default="nothing", description="What these sub-agents see of the conversation."
    )

    def roles(self) -> Iterator[str]:
        """The critic and the generator."""
        yield from filter(None, (self.critic, self.generator))


class Critique(BaseModel):
    """What a critic says of a draft."""

    score: float = Field(ge=0, le=1, description="From 0, useless, to 1, nothing to improve.")
    points: list[Annotated[str, StringConstraints(max_length=500)]] = Field(
        default_factory=list, max_length=10, description="What to mend."
    )


class ReflectionState(PatternState, total=False):
    """``best`` is the draft with the score ``best_score``, which is ``None`` where it has none.

    ``points`` are those of the newest ``draft``, out of the message ``critique``. ``round`` counts
    critiques, ``stale`` those since the best score.
    """

    draft: AIMessage | None
    points: list[str]
    critique: AIMessage | None
    best: AIMessage | None
    best_score: float | None
    round: int
    stale: int


FRESH: dict[str, Any] = {
    "draft": None,
    "points": [],
    "critique": None,
    "best": None,
    "best_score": None,
    "round": 0,
    "stale": 0,
}


class _Reflection:
    """The nodes of the graph."""

    def __init__(self, kit: Kit, options: ReflectionOptions) -> None:
        self._options = options
        self._itself = Role(kit)
        self._generator = Role(kit, options.generator, options.history)
        self._critic = Role(kit, options.critic, options.history)

    async def draft(self, state: ReflectionState) -> Command[str]:
        """The first draft, or one that mends the points of the last."""
        messages, last = state["messages"], state["draft"]
        asked = prompt(_WRITE)
        if last is not None:
            data = framed("draft", str(last.text)), framed("points", listed(state["points"]))
            asked = prompt(_REVISE, *data, of=filter(None, (last, state["critique"])))
        report = await self._generator.write(messages, asked)
        if report.is_error:
            report = await self._itself.write(messages, asked)
        draft = report.message
        is_same = last is not None and draft.text == last.text
        update: ReflectionState = {"draft": draft}
        return Command(update=update, goto="answer" if is_same else "critique")

    async def critique(self, state: ReflectionState) -> Command[str]:
        """Judge the draft: it may be the best so far, good enough, or to be written again."""
        draft = state["draft"]
        assert draft is not None
        judged = await self._judged(state["messages"], draft)
        best, score = state["best"], state["best_score"]
        if judged is None:
            update: ReflectionState = {"best": best or draft}
            return Command(update=update, goto="answer")
        critique = judged.value
        better = score is None or critique.score > score
        stale = 0 if better else state["stale"] + 1
        update = {
            "points": critique.points,
            "critique": judged.message,
            "best": draft if better else best,
            "best_score": critique.score if better else score,
            "round": state["round"] + 1,
            "stale": stale,
        }
        is_done = (
            critique.score >= self._options.threshold
            or update["round"] >= self._options.rounds
            or 0 < self._options.patience <= stale
        )
        return Command(update=update, goto="answer" if is_done else "draft")

    async def _judged(
        self, messages: Sequence[BaseMessage], draft: AIMessage
    ) -> Extracted[Critique] | None:
        data = framed("criteria", self._options.criteria), framed("draft", str(draft.text))
        asked = prompt(_CRITIQUE, *data, of=[draft])
        return await self._critic.extract(messages, asked, Critique)

    async def answer(self, state: ReflectionState) -> ReflectionState:
        """The best draft."""
        best = state["best"]
        assert best is not None
        return {"messages": [best]}


def build(kit: Kit, options: ReflectionOptions) -> Graph:
    """The graph of an agent that reflects."""
    nodes = _Reflection(kit, options)
    graph = StateGraph(ReflectionState)
    graph.add_node("draft", nodes.draft, destinations=("critique", "answer"))
    graph.add_node("critique", nodes.critique, destinations=("draft", "answer"))
    graph.add_node("answer", nodes.answer)
    graph.add_edge(START, "draft")
    graph.add_edge("answer", END)
    return graph


PATTERN = Pattern(
    name="reflection",
    summary="A draft is judged and written again until a critic is content.",
    source="Madaan et al. 2023, Self-Refine, arXiv:2303.17651; Shinn et al. 2023, Reflexion, "
    "arXiv:2303.11366",
    options=ReflectionOptions,
    build=build,
    fresh=FRESH,
)
