"""What a ReAct agent's model is sent: its instructions, then what of the thread there is room for.

From turn to turn a request begins as the one before did, so that caches of prefixes are of use: the
instructions never change, remembered facts and results stay where they were first shown, and only
a summary, which leaves half of the room free, makes a new beginning.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated, TypedDict

from langchain_core.messages import (
    AIMessage,
    AnyMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
)
from langgraph.channels.delta import DeltaChannel

from corral.agents.handoff import first
from corral.agents.reducer import SNAPSHOT_EVERY, add_messages
from corral.agents.spec import DEFAULT_INSTRUCTIONS, Agent
from corral.agents.typed_answer import asks_again
from corral.jsontypes import JsonObject
from corral.memory.compaction import (
    Compaction,
    accept_summary,
    estimate_tokens,
    message_budget,
    plan,
    stands_for,
    summary_request,
)
from corral.memory.labelled import labelled
from corral.memory.notes import Notes, append, forgetting, is_noted, known, note
from corral.memory.store import facts_message
from corral.memory.view import ThreadView
from corral.policies.provenance.labels import PUBLIC, Label
from corral.runtime.asking import Ask, ask_model
from corral.runtime.calls import Services, Setting, recall_facts


class ReactState(TypedDict, total=False):
    """A thread: every message, and the summary that stands for the first ``covered`` of them.

    ``summarised_by`` is the id of the answer with that summary, and ``summary_label`` what it was
    made with. ``facts`` is the log of remembered facts (``corral.memory.notes``). ``offered`` names
    the tools that the model was offered last, where there are many (``corral.agents.toolset``).
    ``confidence`` is the mean probability of the newest answer's tokens, where the agent's
    ``sampling.logprobs`` asks for them.
    """

    messages: Annotated[
        list[AnyMessage],
        DeltaChannel(add_messages, snapshot_frequency=SNAPSHOT_EVERY),
    ]
    summary: str
    covered: int
    summarised_by: str
    summary_label: JsonObject
    handoff: Annotated[JsonObject | None, first]
    facts: Annotated[list[JsonObject], DeltaChannel(append, snapshot_frequency=SNAPSHOT_EVERY)]
    offered: list[str]
    confidence: float | None


@lru_cache(maxsize=64)
def _system(text: str, label: Label) -> tuple[SystemMessage, int]:
    """The system message with this text, and its tokens: the same one at every step."""
    message = labelled(SystemMessage(text), label)
    return message, estimate_tokens([message])


def _newest_prompt(messages: Sequence[BaseMessage]) -> BaseMessage:
    """What the user, or whoever gave the task, has said last."""
    return next(m for m in reversed(messages) if isinstance(m, HumanMessage) and not asks_again(m))


@dataclass(frozen=True)
class Prompt:
    """What a model is sent, and its estimated tokens without the definitions of tools."""

    messages: list[BaseMessage]
    tokens: int


@dataclass(frozen=True)
class Prompting:
    """The prompts of one agent in one thread; ``view`` is what its model sees of that."""

    agent: Agent
    model: str
    services: Services
    view: ThreadView
    notes: Notes = field(default_factory=Notes, compare=False)

    async def request(self, state: ReactState, setting: Setting) -> tuple[Prompt, ReactState]:
        """What the model is sent, and the state update of a compaction that it needed."""
        messages: list[BaseMessage] = list(state["messages"])
        noted = await self._noted(state.get("facts", []), messages, setting)
        log = [*state.get("facts", []), *noted]
        update: ReactState = {"facts": noted} if noted else {}
        system, tokens = _system(*await self._instructions(messages, setting))
        overhead = tokens + setting.definition_tokens
        budget = message_budget(setting.context_window, overhead=overhead)
        summary, covered = state.get("summary"), state.get("covered", 0)
        before = state.get("summarised_by", "")
        # A fact that was forgotten since is in no message any more, and yet in the summary.
        label = Label.from_json(state["summary_label"]) if "summary_label" in state else PUBLIC
        thread = self.notes.among(messages, log, covered)
        seen = self.view.grown(thread.messages, thread.place(covered), budget)
        if seen is not None:
            return Prompt([system, *seen], tokens + self.view.tokens), update
        while compaction := plan(thread.messages, summary, budget, covered=thread.place(covered)):
            covered = thread.covered(compaction.covered)
            label = label.join(compaction.label)
            answer = await self._summarised(replace(compaction, label=label), covered, before)
            summary, before = accept_summary(compaction, str(answer.text)), str(answer.id)
            update |= {"summary": summary, "covered": covered, "summarised_by": before}
            update["summary_label"] = label.to_json()
            thread = self.notes.among(messages, log, covered)
        seen = self.view.whole(thread.messages, summary, thread.place(covered), budget, label)
        return Prompt([system, *seen], tokens + self.view.tokens), update

    async def _summarised(self, compaction: Compaction, covered: int, before: str) -> AIMessage:
        """The model's summary of the first ``covered`` messages; ``before`` names the last one."""
        ask = Ask(
            self.model,
            summary_request(compaction),
            purpose="summary",
            stands_for=stands_for(compaction, covered, before),
        )
        return await ask_model(ask, self.services)

    async def _noted(
        self, log: list[JsonObject], messages: list[BaseMessage], setting: Setting
    ) -> list[JsonObject]:
        """What the thread's log of remembered facts gains by the newest prompt."""
        if not isinstance(messages[-1], HumanMessage):
            return []  # a later step: they were looked up when the prompt came
        prompt = _newest_prompt(messages)
        ids = known(log)
        if not setting.preview or is_noted(log, prompt.id) or not (self.agent.facts or ids):
            return []
        found = await recall_facts(lambda: str(prompt.text), self.agent.facts, self.services, ids)
        if not found.facts and not found.forgotten:
            return []
        gone = [forgetting(found.forgotten)] if found.forgotten else []
        return [*gone, note([*log, *gone], prompt.id, found.facts)]

    async def _instructions(
        self, messages: list[BaseMessage], setting: Setting
    ) -> tuple[str, Label]:
        """The agent's instructions, and their label; in runs of before with what is remembered."""
        instructions = self.agent.instructions or DEFAULT_INSTRUCTIONS
        if self.agent.typed is not None:
            instructions = f"{instructions}\n\n{self.agent.typed.instructions}"
        if setting.preview or not self.agent.facts:
            return instructions, PUBLIC

        def query() -> str:
            return str(next(m for m in reversed(messages) if isinstance(m, HumanMessage)).text)

        facts = (await recall_facts(query, self.agent.facts, self.services)).facts
        notes = facts_message(facts)
        label = PUBLIC.join(*(fact.provenance for fact in facts))
        return (f"{instructions}\n\n{notes}" if notes else instructions), label
