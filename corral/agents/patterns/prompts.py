"""The prompts of patterns: an instruction first, then what models and tools have said, as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from langchain_core.messages import BaseMessage, HumanMessage

from corral.memory.labelled import joined_label, labelled
from corral.memory.tokens import shorten

LONGEST = 2000
"""Tokens of one piece of data in a prompt that has many."""

ELSE = "everything else"
"""What the agent itself is for, beside its team."""


def prompt(instruction: str, *data: str, of: Iterable[BaseMessage] = ()) -> HumanMessage:
    """An instruction over data, see ``framed``. ``of`` are the messages that the data come from.

    What is made of them has their label.
    """
    return labelled(HumanMessage("\n\n".join((instruction, *filter(None, data)))), joined_label(of))


def framed(tag: str, text: str, *, tokens: int | None = None) -> str:
    """A text between ``<tag>`` and ``</tag>``, which nothing in it can close.

    One that is longer than ``tokens`` loses its middle. Nothing where there is no text.
    """
    kept = text if tokens is None else shorten(text, tokens)
    inside = kept.strip().replace(f"</{tag}", f"<\\/{tag}")
    return f"<{tag}>\n{inside}\n</{tag}>" if inside else ""


def task_of(messages: Sequence[BaseMessage]) -> str:
    """What the user has asked for, or whoever gave the task."""
    newest = next((m for m in reversed(messages) if isinstance(m, HumanMessage)), None)
    return str(newest.text) if newest else ""


def request(messages: Sequence[BaseMessage]) -> str:
    """The task in a prompt, for an agent that does not see the conversation."""
    return framed("request", task_of(messages))


def described(names: Mapping[str, str]) -> str:
    """Names with what each is for, where that is said, as ``listed``."""
    return listed([f"{name}: {what}" if what else name for name, what in names.items()])


def listed(items: Sequence[str]) -> str:
    """Items as lines that begin with a dash."""
    return "\n".join(f"- {' '.join(item.split())}" for item in items)
