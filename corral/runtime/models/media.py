"""Images and files in messages: who takes them, and what others get in their place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from langchain_core.messages import BaseMessage, ToolMessage

from corral.errors import ModelError

NOT_SHOWN = "[The images are not shown: the model reads this result as text.]"

_TEXT = ("text", "reasoning", "thinking", "tool_use", "tool_call", "function_call")
_IMAGES = ("image", "image_url")


@runtime_checkable
class Sighted(Protocol):
    """A ``ChatModel`` that says whether the results of tools may have images for it."""

    @property
    def takes_images(self) -> bool:
        """Whether it is known to take images, also in the results of tools."""
        ...


def takes_images(*models: Any) -> bool:
    """Whether one of the models is known to take images in the results of tools."""
    return any(isinstance(model, Sighted) and model.takes_images for model in models)


def images_in(message: BaseMessage) -> list[Mapping[str, Any]]:
    """The blocks of a message that are images."""
    if isinstance(message.content, str):
        return []
    blocks = [block for block in message.content if isinstance(block, Mapping)]
    return [block for block in blocks if block.get("type") in _IMAGES]


def results_as_text(messages: Sequence[BaseMessage]) -> list[BaseMessage]:
    """The messages, in which the results of tools have a note in place of images."""
    return [as_text(one) if isinstance(one, ToolMessage) else one for one in messages]


def as_text(result: ToolMessage) -> ToolMessage:
    """A tool's result with a note in place of its images."""
    if not images_in(result):
        return result
    return result.model_copy(update={"content": f"{result.text}\n{NOT_SHOWN}"})


def refuse_media(messages: Iterable[BaseMessage], model: str) -> None:
    """Raise ``ModelError`` when there is more than text in the messages."""
    kinds = {
        str(block.get("type"))
        for message in messages
        if isinstance(message.content, list)
        for block in message.content
        if isinstance(block, dict)
    }
    others = sorted(kinds.difference(_TEXT))
    if others:
        raise ModelError(
            f"The model {model} takes text only, and what it is to answer has more in it: "
            f"{', '.join(others)}.",
            hint="Ask a model that takes it, such as a hosted one, or leave it out.",
        )
