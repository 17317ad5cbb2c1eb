"""What a request is like, as far as rules ask about it: its size, its images, its newest words."""

from __future__ import annotations

import re

from langchain_core.messages import HumanMessage

from corral.jsontypes import Json, canonical
from corral.memory.tokens import estimate_tokens
from corral.runtime.models.contract import ModelRequest
from corral.runtime.models.media import images_in

_WORD = re.compile(r"\w+")


def request_tokens(request: ModelRequest) -> int:
    """Estimated tokens of the messages and of the tools that are offered."""
    tools: list[Json] = [
        [tool.server, tool.tool, tool.description, tool.input_schema] for tool in request.tools
    ]
    return estimate_tokens(request.messages) + (estimate_tokens(canonical(tools)) if tools else 0)


def has_images(request: ModelRequest) -> bool:
    """Whether a message holds an image."""
    return any(map(images_in, request.messages))


def newest_words(request: ModelRequest) -> str:
    """The words of what the user wrote last, in lower case, with one space around each."""
    asked = (one for one in reversed(request.messages) if isinstance(one, HumanMessage))
    newest = next(asked, None)
    return "" if newest is None else words_of(str(newest.text))


def words_of(text: str) -> str:
    """The words of a text, in lower case, with one space around each."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "
