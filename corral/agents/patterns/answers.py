"""What a text answers: taken out of it, made comparable, and counted as votes."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import Literal

from langchain_core.messages import AIMessage
from pydantic import BaseModel, Field

from corral.agents.kit import Kit
from corral.agents.patterns.options import Options
from corral.agents.patterns.prompts import framed, prompt

Extractor = Literal["structured", "marker", "last_number", "last_line", "whole"]
"""How an answer is found in a text. There is no regular expression among them: what a model writes
could make one run for ever."""

_STATE = "Give the final answer of this text alone, as short as it can be. Do not solve it again."
_NUMBER = re.compile(r"-?\d[\d,]{0,60}(?:\.\d{1,60})?")
_AROUND = " \t\n\r\"'`*_.,;:!?()[]{}<>=$€£%"


class AnswerOptions(Options):
    """How the answer is taken out of a text."""

    extract: Extractor = Field(
        default="structured",
        description="structured: the model is asked for it; marker: what follows the last `marker` "
        "on its line; last_number; last_line; whole: the text as it is.",
    )
    marker: str = Field(default="Answer:", min_length=1, description="With extract = marker.")


class Final(BaseModel):
    """The final answer of a text, without the way to it."""

    answer: str = Field(description="The final answer alone.")


async def answer_in(kit: Kit, options: AnswerOptions, message: AIMessage) -> str | None:
    """The answer in a message, comparable with others; ``None`` where there is none."""
    text = str(message.text)
    if options.extract != "structured":
        return comparable(extracted(text, options))
    if not text.strip():
        return None
    given = await kit.decide([prompt(_STATE, framed("text", text), of=[message])], Final)
    return comparable(given.answer if given else _last_line(text))


def extracted(text: str, options: AnswerOptions) -> str:
    """The answer in a text, found without a model; empty where there is none."""
    match options.extract:
        case "marker":
            _, marker, after = text.casefold().rpartition(options.marker.casefold())
            lines = after.strip().splitlines()
            return lines[0] if marker and lines else ""
        case "last_number":
            return next(reversed(_NUMBER.findall(text)), "")
        case "last_line":
            return _last_line(text)
        case _:
            return text


def comparable(text: str) -> str | None:
    """The text without what makes no difference: case, spaces, marks around it, forms of numbers.

    ``None`` when nothing is left.
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split()).strip(_AROUND)
    if _NUMBER.fullmatch(plain):
        number = Decimal(plain.replace(",", "")).normalize()
        return f"{number:f}"
    return plain or None


def majority(answers: Sequence[str | None]) -> int | None:
    """The first who gave the most frequent answer; of equally frequent ones that seen first counts.

    ``None`` when nobody gave one.
    """
    votes = Counter(answer for answer in answers if answer is not None)
    return answers.index(votes.most_common(1)[0][0]) if votes else None


def to_decide(answers: Sequence[str | None], left: int) -> int:
    """How many of the ``left`` votes it takes at least until they cannot change the majority.

    0: it is decided.
    """
    votes = [count for _, count in Counter(a for a in answers if a is not None).most_common(2)]
    most, second = [*votes, 0, 0][:2]
    return max(0, (second + left - most) // 2 + 1) if left else 0


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""
