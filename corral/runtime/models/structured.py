"""Answers that are values of a Python type: instructor checks them and asks again with the error.

The model is asked through a function of the caller's, so that every try is an effect of its own
under the budget. instructor (and with it the openai SDK) is imported when it is first used.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Generic, TypeVar, cast

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from pydantic import BaseModel, PydanticUserError, RootModel, create_model

from corral.errors import InvalidAnswer, UsageError
from corral.memory.labelled import label_of, labelled
from corral.runtime.models.contract import JsonOutput, StopReason

T = TypeVar("T")

RETRIES = 2
"""How often a model is asked again for an answer that is of the type."""

_FINAL: dict[StopReason, tuple[str, str]] = {
    "length": ("it was cut off at its longest length", "Raise max_tokens of its sampling."),
    "refusal": ("the model refused", "Ask for something else, or ask another model."),
    "content_filter": ("its provider filtered it", "Ask for something else."),
}
"""The ends of an answer after which asking again gives no other: what happened, what to do."""

_LONGEST, _LONGEST_MESSAGE = 8000, 2000
"""Characters of what was wrong with an answer: for the model, and for a person."""

_ABOUT_PYDANTIC = "For further information visit https://errors.pydantic.dev/"


@dataclass(frozen=True)
class Answered:
    """A model's answer, why it ended, and the mean probability of its tokens if it was told."""

    message: AIMessage
    stop_reason: StopReason
    probability: float | None = None


Asking = Callable[[Sequence[BaseMessage]], Awaitable[Answered]]
"""Asks the model with these messages after those that it was asked with first."""


@dataclass(frozen=True)
class Extracted(Generic[T]):
    """The value of an answer, the message that it came in, and how often the model was asked."""

    value: T
    message: AIMessage
    tries: int = 1


@dataclass(frozen=True)
class Shape(Generic[T]):
    """A type that answers are to have: a pydantic model, or whatever pydantic can validate.

    ``model`` is an object, as providers want it: of another type it has the value as ``answer``.
    ``checked`` has that as its root, so that the value stays one of the caller's own class.
    """

    name: str
    output: JsonOutput
    checked: type[RootModel[Any]]
    is_wrapped: bool

    @classmethod
    def of(cls, type_: Any) -> Shape[Any]:
        """The shape of a type. Raises ``UsageError`` for one that has no JSON Schema."""
        is_model = isinstance(type_, type) and issubclass(type_, BaseModel)
        is_wrapped = not is_model or issubclass(type_, RootModel)
        own_name = getattr(type_, "__name__", "")
        name = own_name if own_name.isidentifier() and not is_wrapped else "Answer"
        try:
            model: Any = create_model(name, answer=(type_, ...)) if is_wrapped else type_
            root: Any = RootModel.__class_getitem__(model)
            output = JsonOutput(model.model_json_schema(), name)
            return cls(name, output, cast("Any", create_model(name, __base__=root)), is_wrapped)
        except PydanticUserError as error:
            raise UsageError(
                f"No answer can be of the type {type_!r}: {error.message}",
                hint="Give a pydantic model, or a type that has a JSON Schema.",
            ) from error

    def read(self, text: str) -> T:
        """The value of an answer that was accepted. Raises pydantic's ``ValidationError``."""
        return self.value(self.checked.model_validate_json(text))

    def value(self, checked: Any) -> T:
        """The value in what ``checked`` has made of an answer."""
        value: T = checked.root.answer if self.is_wrapped else checked.root
        return value


async def structured(shape: Shape[T], ask: Asking, *, retries: int = RETRIES) -> Extracted[T]:
    """Ask until the answer is of the shape, ``retries`` times again at most.

    Raises what ``ask`` raises, and ``InvalidAnswer`` when no answer fits.
    """
    instructor = _instructor()
    loop = _Loop(ask)
    create = instructor.patch(create=loop.create, mode=instructor.Mode.JSON_SCHEMA)
    try:
        checked = await create(
            response_model=shape.checked, messages=[], max_retries=retries, strict=None
        )
    except instructor.core.InstructorRetryException as error:
        if loop.failure is not None:
            raise loop.failure from None
        wrong = _readable(str(error.__cause__ or error), _LONGEST_MESSAGE)
        raise InvalidAnswer(
            f"The model gave no answer of the type {shape.name}, asked {retries + 1} times. "
            f"Of the last one: {wrong}",
            hint="Make the type simpler, describe its fields, or ask a stronger model.",
        ) from None
    assert loop.last is not None
    return Extracted(shape.value(checked), loop.last, loop.tries)


@dataclass
class _Loop:
    """What instructor takes for a provider's client. It keeps what really was asked and failed."""

    ask: Asking
    last: AIMessage | None = None
    failure: Exception | None = None
    _tries: list[AIMessage] = field(default_factory=list)

    @property
    def tries(self) -> int:
        """How often the model has answered."""
        return len(self._tries)

    async def create(self, *, messages: Sequence[dict[str, Any]], **_request: Any) -> Any:
        """One try; ``messages`` are those that instructor asks again with."""
        try:
            answered = await self.ask([self._message(index, m) for index, m in enumerate(messages)])
            if answered.stop_reason in _FINAL:
                what, hint = _FINAL[answered.stop_reason]
                raise InvalidAnswer(f"The model's answer is not complete: {what}.", hint=hint)
        except Exception as error:
            self.failure = error  # instructor wraps whatever is raised here
            raise
        self.last = answered.message
        self._tries.append(answered.message)
        return _completion(answered.message)

    def _message(self, index: int, message: dict[str, Any]) -> BaseMessage:
        """An answer as it was given, or why it was not accepted, which quotes it."""
        answer = self._tries[index // 2]
        if message["role"] == "assistant":
            return answer
        return labelled(HumanMessage(_readable(message["content"], _LONGEST)), label_of(answer))


def _instructor() -> Any:
    instructor = import_module("instructor")
    # It logs what it raises as well; with no handler at all that goes to standard error.
    logging.getLogger("instructor").addHandler(logging.NullHandler())
    return instructor


def _completion(message: AIMessage) -> Any:
    """The answer in the form of a provider that instructor knows."""
    chat = import_module("openai.types.chat")
    said = {"role": "assistant", "content": message.text}
    return chat.ChatCompletion.model_validate(
        {
            "id": message.id or "",
            "object": "chat.completion",
            "created": 0,
            "model": "",
            "choices": [{"index": 0, "finish_reason": "stop", "message": said}],
        }
    )


def _readable(text: str, most: int) -> str:
    """pydantic's text without its links, which change with its version, and without its middle.

    There is an error for every item of a list, each many times as long as the item.
    """
    plain = "\n".join(line for line in text.splitlines() if _ABOUT_PYDANTIC not in line)
    half = most // 2
    return plain if len(plain) <= most else f"{plain[:half]}\n[…]\n{plain[-half:]}"
