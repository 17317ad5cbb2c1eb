"""Debate: several answer, see what the others say, answer again, and a judge decides.

Du et al. 2023, "Improving Factuality and Reasoning in Language Models through Multiagent Debate",
arXiv:2305.14325; with a judge: Irving et al. 2018, "AI safety via debate", arXiv:1805.00899.

    START ─► moderate ─► speak (one task per debater) ─► moderate ─► … ─► judge ─► END

It ends after ``rounds`` rounds, when all say the same (``consensus``), and when a round has changed
nobody's mind. The answer is the message of the debater for whom the judge decides; without a
judgement that can be read, that of the majority, and of equally many the first. A debater who fails
stays with the last answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict, cast

from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, Send
from pydantic import BaseModel, Field, create_model, model_validator

from corral.agents.kit import Kit
from corral.agents.patterns.answers import AnswerOptions, Extractor, answer_in, majority
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.prompts import LONGEST, framed, prompt, request
from corral.agents.patterns.roles import Role
from corral.agents.patterns.sampling import (
    Sample,
    SamplingOptions,
    answered,
    apart,
    sampled,
    varied,
)
from corral.agents.patterns.state import EMPTY, PatternState, gathered

_OPEN = "Answer the request."
_REPLY = (
    "Others have answered the request as follows. Say where they or you were wrong, if anywhere, "
    "and answer the request again."
)
_JUDGE = (
    "Here are the answers of {count} debaters to the request. Decide which one is right, and say "
    "why in one sentence. Do not answer the request."
)


class DebateOptions(AnswerOptions, SamplingOptions):
    """The options of a debate."""

    debaters: tuple[str, ...] = Field(
        default=(),
        max_length=16,
        description="The sub-agents that debate; the agent itself, `size` times, when left out.",
    )
    size: int = Field(default=3, ge=2, le=16, description="How often the agent itself debates.")
    rounds: int = Field(default=2, ge=1, le=10, description="Answers of each debater at most.")
    consensus: bool = Field(default=True, description="Whether it ends when all say the same.")
    judge: str = Field(
        default="", description="The sub-agent that judges; the agent itself when left out."
    )
    extract: Extractor = Field(
        default="last_line", description="How answers are found, to be compared."
    )

    @model_validator(mode="after")
    def _check_debaters(self) -> DebateOptions:
        if len(self.debaters) == 1 or len(set(self.debaters)) < len(self.debaters):
            raise ValueError("a debate is among two or more different debaters")
        return self

    def roles(self) -> Iterator[str]:
        """The debaters and the judge."""
        yield from filter(None, (*self.debaters, self.judge))


class Speech(Sample):
    """What a debater has said in a round, and the answer in it, as it is compared."""

    debater: int
    answer: str | None


class Turn(TypedDict):
    """The input of one speech: whose it is, and what the others and the debater said last."""

    debater: int
    messages: list[AnyMessage]
    own: AIMessage | None
    others: list[AIMessage]


class State(PatternState, total=False):
    """The speeches, round by round."""

    speeches: Annotated[list[Speech], gathered]


class _Debate:
    """The nodes of the graph."""

    def __init__(self, kit: Kit, options: DebateOptions) -> None:
        self._kit = kit
        self._options = options
        self._size = len(options.debaters) or options.size
        self._limit = asyncio.Semaphore(options.parallel)

    async def moderate(self, state: State) -> Command[Any]:
        """Open the next round, or close the debate."""
        speeches = state.get("speeches", [])
        rounds = len(speeches) // self._size
        last = self._last(speeches)
        if rounds and (rounds >= self._options.rounds or self._is_settled(speeches)):
            return Command(goto="judge")
        turns = [self._turn(state, last, debater) for debater in range(self._size)]
        return Command(goto=[Send("speak", turn) for turn in turns])

    def _turn(self, state: State, last: dict[int, Speech], debater: int) -> Turn:
        said = {one: speech["message"] for one, speech in last.items()}
        others = [said[one] for one in sorted(said) if one != debater]
        return Turn(
            debater=debater,
            messages=state["messages"],
            own=said.get(debater),
            others=[message for message in others if message],
        )

    async def speak(self, state: Turn) -> State:
        """One debater's answer."""
        async with self._limit:
            made = await self._said(state)
            message = made["message"]
            answer = await answer_in(self._kit, self._options, message) if message else None
        return {"speeches": [Speech(**made, debater=state["debater"], answer=answer)]}

    async def _said(self, turn: Turn) -> Sample:
        messages, own = turn["messages"], turn["own"]
        if not self._options.debaters:
            kit = varied(self._kit, turn["debater"], self._options.temperature)
            before = [*messages, *([own] if own else [])]
            asked = [_reply(turn)] if turn["others"] else []
            return await sampled(kit, [*before, *asked])
        name = self._options.debaters[turn["debater"]]
        data = [framed("you", str(own.text), tokens=LONGEST)] if own else []
        task = f"{request(messages)}\n\n{_reply(turn, *data).text}"
        returns = self._kit.agent.returns
        report = await apart(lambda: self._kit.work(name, task, returns=returns))
        return Sample(message=None if report.is_error else report.message)

    async def judge(self, state: State) -> State:
        """The message of the debater who wins."""
        speeches = list(self._last(state["speeches"]).values())
        answers = [speech["answer"] for speech in speeches]
        winner = await self._judged(state, speeches) if _differ(answers) else None
        if winner is None:
            winner = majority(answers) or 0
        chosen = speeches[winner]["message"] if speeches else None
        return {"messages": [await answered(self._kit, state["messages"], chosen)]}

    async def _judged(self, state: State, speeches: list[Speech]) -> int | None:
        said = [cast("AIMessage", speech["message"]) for speech in speeches]
        answers = [
            framed(f"debater_{number}", str(message.text), tokens=LONGEST)
            for number, message in enumerate(said, 1)
        ]
        messages = state["messages"]
        asked = prompt(_JUDGE.format(count=len(said)), *answers, of=[*messages, *said])
        role = Role(self._kit, self._options.judge)
        judgement = await role.decide(messages, asked, judgement_of(len(said)))
        return cast("Any", judgement).winner - 1 if judgement else None

    def _last(self, speeches: list[Speech]) -> dict[int, Speech]:
        """What each debater said last, in their order, of those who have said something."""
        said = {speech["debater"]: speech for speech in speeches if speech["message"] is not None}
        return dict(sorted(said.items()))

    def _is_settled(self, speeches: list[Speech]) -> bool:
        """Whether a further round could change nothing."""
        now = [speech["answer"] for speech in self._last(speeches).values()]
        if self._options.consensus and not _differ(now):
            return True
        before = [speech["answer"] for speech in self._last(speeches[: -self._size]).values()]
        return now == before and None not in now


def _differ(answers: list[str | None]) -> bool:
    """Whether there is anything to decide; who gave no answer may mean another."""
    return len(answers) > 1 and (None in answers or len(set(answers)) > 1)


def judgement_of(count: int) -> type[BaseModel]:
    """The type of a judgement of that many debaters."""
    return create_model(
        "Judgement",
        winner=(Annotated[int, Field(ge=1, le=count)], Field(description="The debater's number.")),
        why=(Annotated[str, Field(max_length=500)], Field(default="", description="Why.")),
    )


def _reply(turn: Turn, *data: str) -> HumanMessage:
    """What a debater is asked: to begin, or to reply to the others."""
    others = [framed("answer", str(one.text), tokens=LONGEST) for one in turn["others"]]
    instruction = _REPLY if others else _OPEN
    return prompt(instruction, *data, *others, of=[*turn["messages"], *turn["others"]])


def build(kit: Kit, options: DebateOptions) -> Graph:
    """The graph."""
    nodes = _Debate(kit, options)
    graph = StateGraph(State)
    graph.add_node("moderate", nodes.moderate, destinations=("speak", "judge"))
    graph.add_node("speak", nodes.speak, input_schema=Turn)
    graph.add_node("judge", nodes.judge)
    graph.add_edge(START, "moderate")
    graph.add_edge("speak", "moderate")
    graph.add_edge("judge", END)
    return graph


PATTERN = Pattern(
    name="debate",
    summary="Several answer, see what the others say, answer again, and a judge decides.",
    source="Du et al. 2023, arXiv:2305.14325; Irving et al. 2018, AI safety via debate, "
    "arXiv:1805.00899",
    options=DebateOptions,
    build=build,
    fresh={"speeches": EMPTY},
)
