"""Answers of a declared type: what an agent that read untrusted material may hand back.

The agent is asked for JSON of the type, and asked again where it gives something else. Whoever gave
it the task gets the value alone, written in the one way in which it can be written, or a fixed
text: nothing of what the agent has read or said besides reaches them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import PydanticUserError, TypeAdapter

from corral.errors import ConfigError
from corral.jsontypes import Json, JsonObject, canonical
from corral.memory.labelled import label_of, labelled
from corral.policies.provenance.closed_types import NotOfType, is_closed, pruned
from corral.runtime.models.contract import JsonOutput
from corral.tools.bounded_validators import TooMuchWorkError
from corral.tools.contract import ToolSpec
from corral.tools.schemas import (
    UnusableSchemaError,
    check_output,
    checked_schema,
)

RETRIES = 2
"""How often an agent is asked again for an answer of its type."""

FAILED = "The agent gave no answer of its declared type."

_MAX_ANSWER = 100_000
_MARK = "/typed"
FAULT = "/fault"
"""Ends the id of a message that asks for another answer because a check has found a fault."""

_FENCE = re.compile(r"\A\s*```(?:json)?\s*\n(?P<inside>.*)\n\s*```\s*\Z", re.DOTALL)


@dataclass(frozen=True)
class TypedAnswer:
    """The type of an agent's answers."""

    schema: JsonObject

    @property
    def is_closed(self) -> bool:
        """Whether no instruction fits into a value of it."""
        return is_closed(self.schema)

    @property
    def instructions(self) -> str:
        """What the agent is told of it."""
        return (
            "Your final answer is one JSON value and nothing else: no words around it. It fits "
            f"this JSON Schema: {canonical(self.schema)}"
        )

    @property
    def output(self) -> JsonOutput:
        """What a model is held to that can be."""
        return JsonOutput(self.schema)

    def read(self, text: str) -> Json:
        """The value of an answer. Raises ``NotOfType`` that says what is wrong with it."""
        fenced = _FENCE.match(text)
        try:
            value = json.loads(fenced["inside"] if fenced else text, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise NotOfType(f"it is not JSON: {error}") from error
        if len(text) > _MAX_ANSWER:
            raise NotOfType(f"it is longer than {_MAX_ANSWER:,} characters")
        spec = ToolSpec("agents", "answer", "", {}, output_schema=self.schema)
        try:
            wrong = check_output(spec, value)
        except TooMuchWorkError:
            wrong = "it is too complex to be checked"
        if wrong:
            raise NotOfType(wrong)
        return pruned(self.schema, value)

    def settle(self, text: str) -> tuple[str, bool]:
        """What of an answer is handed on, and whether that is an error."""
        try:
            return canonical(self.read(text)), False
        except NotOfType:
            return FAILED, True

    def asked_again(
        self, messages: Sequence[BaseMessage], answer: AIMessage
    ) -> list[BaseMessage] | None:
        """What is asked after an answer that does not fit; ``None``: it is the last, or calls."""
        again = None if answer.tool_calls else self.again(messages, answer)
        return None if again is None else [*messages, answer, again]

    def again(self, messages: Sequence[BaseMessage], answer: AIMessage) -> HumanMessage | None:
        """The message that asks for another answer; ``None``: it fits, or that was the last try."""
        if _tries(messages) >= RETRIES:
            return None
        try:
            self.read(str(answer.text))
        except NotOfType as wrong:
            text = f"That is no answer of the declared type: {wrong}. Answer with the JSON alone."
            asking = HumanMessage(text, id=f"{answer.id}{_MARK}")
            return labelled(asking, label_of(answer))
        return None


def answer_schema(declared: Any) -> JsonObject | None:
    """The schema of what an agent ``returns``: a JSON Schema itself, or a type that has one.

    Raises ``ConfigError`` that says what is wrong with it.
    """
    if declared is None:
        return None
    try:
        schema = declared if isinstance(declared, dict) else TypeAdapter(declared).json_schema()
        return checked_schema(schema, of_object=False)
    except (UnusableSchemaError, PydanticUserError) as error:
        raise ConfigError(
            f"What an agent returns cannot be declared so: {error}.",
            hint="Give a pydantic model, or a JSON Schema of what its answers are.",
        ) from error


def asks_again(message: BaseMessage) -> bool:
    """Whether a message is one that asks for another answer, and not the user's."""
    return isinstance(message, HumanMessage) and (message.id or "").endswith((_MARK, FAULT))


def _tries(messages: Sequence[BaseMessage]) -> int:
    tries = 0
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            if not (message.id or "").endswith(_MARK):
                break
            tries += 1
    return tries


def _no_number(name: str) -> Json:
    raise ValueError(f"{name} is no JSON number")
