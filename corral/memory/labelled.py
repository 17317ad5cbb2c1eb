"""Labels of messages: where what a model reads came from. A message carries its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from langchain_core.messages import AIMessage, BaseMessage

from corral.policies.provenance.labels import KEY, PUBLIC, UNKNOWN, Label

MessageT = TypeVar("MessageT", bound=BaseMessage)


def labelled(message: MessageT, label: Label) -> MessageT:
    """The message with a label.

    A model's own carries no sources: those are in what it was sent, which is kept beside it.
    """
    kept = replace(label, sources=()) if isinstance(message, AIMessage) else label
    extra = {**message.additional_kwargs, KEY: kept.to_json()}
    return message.model_copy(update={"additional_kwargs": extra})


def label_of(message: BaseMessage) -> Label:
    """The label of a message; of one that nobody has labelled nothing is known."""
    if KEY not in message.additional_kwargs:
        return UNKNOWN
    return Label.from_json(message.additional_kwargs[KEY])


def joined_label(messages: Iterable[BaseMessage]) -> Label:
    """The label of what is made of all these messages."""
    return PUBLIC.join(*map(label_of, messages))
