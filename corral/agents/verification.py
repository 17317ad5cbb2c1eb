"""A check of a ReAct loop's answer, after which the loop goes on if it has a fault.

    model ─► verify ─► END
      ▲        │
      └─ fault ┘

The answer is held against the request and against what tools gave, by the agent itself or by a
sub-agent (CRITIC, Gou et al. 2023, arXiv:2305.11738). It ends when no fault is found or the check
cannot be read, when the model stands by its answer, and after ``verify`` checks. The last answer
counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.graph import END
from langgraph.types import Command
from pydantic import BaseModel, Field

from corral.agents.kit import Kit
from corral.agents.patterns.prompts import LONGEST, framed, prompt
from corral.agents.patterns.roles import Role
from corral.agents.prompting import ReactState
from corral.agents.react import ReactOptions
from corral.agents.typed_answer import FAULT, asks_again

_CHECK = (
    "Check the answer to the request. Is all that was asked for in it, and does it agree with what "
    "the tools gave? Do not answer the request. If it has a fault, say in one sentence what is to "
    "be mended."
)
_AGAIN = (
    "A check of your answer has found this fault. Mend it, with tools where they help, and give "
    "the whole answer again. If there is no fault, give the same answer."
)


class Verdict(BaseModel):
    """What a check finds."""

    is_right: bool
    fault: str = Field(default="", max_length=1000, description="What is to be mended.")


class Verification:
    """Checks the newest answer of a loop."""

    def __init__(self, kit: Kit, options: ReactOptions) -> None:
        self._kit = kit
        self._checks = options.verify
        self._checker = Role(kit, options.verifier, options.history)

    async def check(self, state: ReactState) -> Command[str]:
        """The node: end the loop, or go on with the fault that was found."""
        before, turn = _parted(state["messages"])
        answers = [one for one in turn if isinstance(one, AIMessage) and not one.tool_calls]
        stands = any(a.text == b.text for a, b in pairwise(answers))
        if not answers or stands or len(_faults(turn)) >= self._checks:
            return Command(goto=END)
        fault = await self._fault(before, turn, answers[-1])
        if fault is None:
            return Command(goto=END)
        return Command(update={"messages": [fault]}, goto="model")

    async def _fault(
        self, before: Sequence[BaseMessage], turn: Sequence[BaseMessage], answer: AIMessage
    ) -> HumanMessage | None:
        results = [one for one in turn if isinstance(one, ToolMessage)]
        data = [
            framed("result", f"{one.name or 'tool'}: {one.text}", tokens=LONGEST) for one in results
        ]
        asked = prompt(_CHECK, *data, framed("answer", str(answer.text)), of=[*results, answer])
        # Calls of tools that are not offered no provider takes.
        said = await self._kit.shown("all", before)
        found = await self._checker.extract(said, asked, Verdict)
        if found is None or found.value.is_right:
            return None
        why = framed("fault", found.value.fault or "It does not answer the request.")
        again = prompt(_AGAIN, why, of=[found.message])
        return again.model_copy(update={"id": f"{answer.id}{FAULT}"})


def _parted(
    messages: Sequence[BaseMessage],
) -> tuple[Sequence[BaseMessage], Sequence[BaseMessage]]:
    """What was said up to the user's newest message, and what has been done since."""
    asked = (
        index
        for index in range(len(messages) - 1, -1, -1)
        if isinstance(messages[index], HumanMessage) and not asks_again(messages[index])
    )
    begin = next(asked, -1) + 1
    return messages[:begin], messages[begin:]


def _faults(turn: Sequence[BaseMessage]) -> list[BaseMessage]:
    return [one for one in turn if (one.id or "").endswith(FAULT)]
