"""A request as a langchain chat model is given it, and what is needed to read the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from langchain_core.messages import BaseMessage

from corral.jsontypes import JsonObject
from corral.runtime.models.contract import Output
from corral.runtime.models.hosted.names import ToolNames

Api = Literal["chat", "responses", "messages", "foreign"]
"""OpenAI's two protocols, Anthropic's, and whatever a langchain model of the user's speaks."""


@dataclass(frozen=True)
class Target:
    """Who is asked: the protocol, the model and what langchain's profile knows of it.

    ``official``: at its provider's own service. ``prompt_cache``: the user wants it used.
    ``strict``: schemas may be strict, unless the provider found them too much. ``summaries``: the
    account may have summaries of reasoning, which OpenAI gives to some only.
    """

    api: Api
    model: str = ""
    official: bool = False
    profile: Mapping[str, Any] = field(default_factory=dict)
    prompt_cache: bool = True
    strict: bool = True
    summaries: bool = True

    def lacks(self, ability: str) -> bool:
        """Whether the model is known not to have something, by the profile's name for it."""
        return self.profile.get(ability) is False


@dataclass(frozen=True)
class Wrapping:
    """How the answer's text is found in what the provider sends for ``output``.

    ``member`` is the one member of a JSON object that holds the answer, empty where the text is
    the answer itself; ``tool`` is the tool that the model calls to give it, empty for none.
    """

    output: Output
    member: str = ""
    tool: str = ""


@dataclass(frozen=True)
class Call:
    """The keyword arguments of langchain's ``astream``, and how to read what it yields.

    ``tools`` are bound by the model itself where the protocol is not known.
    """

    messages: Sequence[BaseMessage]
    settings: JsonObject
    names: ToolNames
    wrapping: Wrapping | None = None
    tools: Sequence[JsonObject] = ()
