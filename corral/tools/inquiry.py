"""What a server asks in the middle of a call, of the user or of a model, and what it is answered.

Source: elicitation and sampling of the MCP specification, and its multi round-trip requests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from corral.jsontypes import JsonObject

MAX_MESSAGE = 4000
"""Characters of a question that are shown."""

MAX_QUESTIONS = 16
"""Questions of one round, and of one call; a server that asks more is not answered."""


@dataclass(frozen=True)
class Inquiry:
    """A question to the user.

    ``form``: values that fit ``schema``, a flat JSON Schema, whose ``fields`` are in this order.
    ``url``: whether they will open ``url``, where something happens that neither Corral nor a model
    sees.
    """

    mode: Literal["form", "url"]
    message: str
    schema: JsonObject = field(default_factory=dict, hash=False)
    url: str = ""
    fields: tuple[str, ...] = ()

    def to_json(self) -> JsonObject:
        """This question as a JSON object; ``from_json`` reads it back."""
        return {**vars(self), "fields": list(self.fields)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Inquiry:
        """Read what ``to_json`` wrote."""
        return cls(**{**data, "fields": tuple(data["fields"])})


@dataclass(frozen=True)
class Reply:
    """The user's answer: ``decline`` is a no, ``cancel`` is no answer at all.

    ``content`` are the values of a form that was accepted.
    """

    action: Literal["accept", "decline", "cancel"]
    content: JsonObject | None = field(default=None, hash=False)


@dataclass(frozen=True)
class Round:
    """A call that was answered with questions: it is made again with the answers.

    ``inquiries`` are those to the user by the server's keys, ``answered`` what needed no user, as
    it goes out. ``state`` is the server's own and goes back as it came.
    """

    inquiries: Mapping[str, Inquiry] = field(hash=False)
    state: str | None = None
    answered: JsonObject = field(default_factory=dict, hash=False)

    @property
    def questions(self) -> list[tuple[str, Inquiry]]:
        """The inquiries in an order that is the same after a restart."""
        return sorted(self.inquiries.items())

    def to_json(self) -> JsonObject:
        """This round as a JSON object; ``from_json`` reads it back."""
        asked = {key: inquiry.to_json() for key, inquiry in self.inquiries.items()}
        return {"inquiries": asked, "state": self.state, "answered": self.answered}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Round:
        """Read what ``to_json`` wrote."""
        asked = {key: Inquiry.from_json(one) for key, one in data["inquiries"].items()}
        return cls(asked, data["state"], data["answered"])


@dataclass(frozen=True)
class Answers:
    """A round with the user's replies, by the same keys."""

    round: Round
    replies: Mapping[str, Reply] = field(hash=False)


@dataclass(frozen=True)
class Sample:
    """What a model is asked for a server: texts by ``user`` or ``assistant``, in order."""

    messages: tuple[tuple[str, str], ...]
    max_tokens: int
    system: str = ""
    temperature: float | None = None


@dataclass(frozen=True)
class Sampled:
    """What the model has answered."""

    text: str
    model: str
    stop_reason: str = "endTurn"


_SECRET = re.compile(
    r"passw|passphrase|secret|token|api[ _-]?key|credential|(?<![a-z])(?:pin|cvv|cvc)(?![a-z])",
    re.IGNORECASE,
)


def secret_field(schema: Mapping[str, Any]) -> str | None:
    """The first field that looks as if a secret was to be typed into it, which no form may ask."""
    fields = schema.get("properties")
    for name, given in fields.items() if isinstance(fields, dict) else ():
        about = (given.get("title"), given.get("description")) if isinstance(given, dict) else ()
        if any(_SECRET.search(str(text)) for text in (name, *about)):
            return str(name)
    return None


class Desk(Protocol):
    """Where a server's questions go while its call is under way."""

    @property
    def run(self) -> str:
        """The run that the call is of."""
        ...

    async def ask(self, inquiry: Inquiry, seconds: float) -> Reply:
        """Ask the user and wait for the answer, so many seconds at most."""
        ...

    async def sample(self, wanted: Sample, seconds: float) -> Sampled:
        """Ask a model, within the run's budget; a person who is asked about that has so many
        seconds. Raises ``CorralError``.
        """
        ...
