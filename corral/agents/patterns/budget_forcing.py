"""Budget forcing: a model that thinks too little goes on, one that thinks too long is cut off.

Muennighoff et al. 2025, "s1: Simple test-time scaling", arXiv:2501.19393.

    START ─► think ─► think ─► … ─► answer ─► END
               (after "Wait")

Thinking goes on while it is shorter than ``least``, up to ``waits`` times. It ends before when the
model has nothing new to say, and at ``most``, where it is cut off. Then the model is asked for the
final answer.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from pydantic import Field, model_validator

from corral.agents.kit import Kit
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.patterns.options import Options
from corral.agents.patterns.prompts import prompt
from corral.agents.patterns.state import PatternState
from corral.memory.tokens import estimate_tokens
from corral.policies.loops.wording import repeated_passage, says_the_same, words_of

_THINK = "Think about the request step by step. Do not give the final answer yet."
_WAIT = "Wait"
_ANSWER = "Final answer:"
_TOKENS_OF_WORD = 4  # more than a word has, so that not the model's limit cuts first
_WORD = re.compile(r"\S+\s*")


class BudgetForcingOptions(Options):
    """The options of budget forcing."""

    least: int = Field(default=200, ge=0, le=100_000, description="Thinking at least.")
    most: int = Field(default=2000, ge=1, le=100_000, description="Thinking at most.")
    unit: Literal["tokens", "words"] = Field(
        default="tokens", description="What they count; tokens are estimated from the text."
    )
    waits: int = Field(default=2, ge=0, le=20, description='How often "Wait" is said at most.')

    @model_validator(mode="after")
    def _check_order(self) -> BudgetForcingOptions:
        if self.least > self.most:
            raise ValueError(f"least ({self.least}) is more than most ({self.most})")
        return self


class State(PatternState, total=False):
    """What was thought so far."""

    thinking: list[AIMessage]


class _Forcing:
    """The nodes of the graph."""

    def __init__(self, kit: Kit, options: BudgetForcingOptions) -> None:
        self._kit = kit
        self._options = options

    async def think(self, state: State) -> Command[Any]:
        """Think, or think on."""
        options, before = self._options, state.get("thinking", [])
        left = options.most - sum(self._length(str(one.text)) for one in before)
        kit = _limited(
            self._kit.untyped, left * (_TOKENS_OF_WORD if options.unit == "words" else 1)
        )
        asked = [*_thought(state), *([prompt(_WAIT)] if before else [])]
        new = await kit.ask(asked, tools=False, aloud=False)
        text = self._cut(str(new.text), left)
        thinking = [*before, new.model_copy(update={"content": text, "tool_calls": []})]
        goes_on = (
            len(thinking) <= options.waits
            and sum(self._length(str(one.text)) for one in thinking) < options.least
            and is_new(text, [str(one.text) for one in before])
        )
        return Command(update={"thinking": thinking}, goto="think" if goes_on else "answer")

    async def answer(self, state: State) -> State:
        """The final answer."""
        asked = [*_thought(state), prompt(_ANSWER)]
        return {"messages": [await self._kit.solve(asked)]}

    def _length(self, text: str) -> int:
        return len(text.split()) if self._options.unit == "words" else estimate_tokens(text)

    def _cut(self, text: str, left: int) -> str:
        """The first ``left`` words of a text; tokens were limited when it was made."""
        if self._options.unit == "tokens" or self._length(text) <= left:
            return text
        return "".join(_WORD.findall(text)[:left]).rstrip()


def is_new(text: str, before: list[str]) -> bool:
    """Whether a thought says anything that those before have not, and comes to an end."""
    words = words_of(text)
    if not words or repeated_passage(text) is not None:
        return False
    return not any(says_the_same(words, words_of(one)) for one in before)


def _thought(state: State) -> list[BaseMessage]:
    """The conversation, and what was thought so far."""
    messages: list[BaseMessage] = [*state["messages"], prompt(_THINK)]
    thinking = [thought for thought in state.get("thinking", []) if thought.text]
    for number, thought in enumerate(thinking):
        messages += [prompt(_WAIT), thought] if number else [thought]
    return messages


def _limited(kit: Kit, tokens: int) -> Kit:
    """The kit, whose model may answer with so many tokens at most."""
    own = kit.agent.sampling
    most = max(1, min(tokens, own.max_tokens or tokens))
    limited = own.model_copy(update={"max_tokens": most})
    return replace(kit, agent=kit.agent.model_copy(update={"sampling": limited}))


def build(kit: Kit, options: BudgetForcingOptions) -> Graph:
    """The graph."""
    nodes = _Forcing(kit, options)
    graph = StateGraph(State)
    graph.add_node("think", nodes.think, destinations=("think", "answer"))
    graph.add_node("answer", nodes.answer)
    graph.add_edge(START, "think")
    graph.add_edge("answer", END)
    return graph


PATTERN = Pattern(
    name="budget_forcing",
    summary="Thinking is made longer or cut off, and then comes the answer.",
    source="Muennighoff et al. 2025, s1: Simple test-time scaling, arXiv:2501.19393",
    options=BudgetForcingOptions,
    build=build,
    fresh={"thinking": []},
)
