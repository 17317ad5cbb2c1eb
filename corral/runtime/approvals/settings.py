"""``[approvals]``: how long a question waits, whom it is asked of next, and who is told."""

from __future__ import annotations

import re
from datetime import timedelta

from pydantic import BaseModel, ConfigDict, Field, model_validator

from corral.errors import UsageError

SPAN = r"^[1-9]\d{0,5}\s*[smhdwSMHDW]$"
_SPAN = re.compile(r"([1-9]\d{0,5})\s*([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def parse_span(text: str) -> timedelta:
    """A span of time such as ``90s``, ``15m``, ``24h``, ``7d`` or ``2w``. Raises ``UsageError``."""
    match = _SPAN.fullmatch(text.strip().lower())
    if match is None:
        raise UsageError(
            f"{text!r} is no span of time.", hint="Write a number and s, m, h, d or w: 15m, 24h."
        )
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


class ApprovalSettings(BaseModel):
    """What becomes of a question that nobody answers. By itself it waits for ever."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout: str | None = Field(
        default=None, pattern=SPAN, description="After this a question is denied: 30m, 24h, 7d."
    )
    escalate_after: str | None = Field(
        default=None, pattern=SPAN, description="After this it is asked of the next in the list."
    )
    escalate_to: tuple[str, ...] = Field(
        default=(), description="Whom it is asked of then, one after the other."
    )
    notify: tuple[str, ...] = Field(
        default=(),
        description="A command that is given each new or escalated question as JSON on its input.",
    )

    @model_validator(mode="after")
    def _check(self) -> ApprovalSettings:
        if bool(self.escalate_after) != bool(self.escalate_to):
            raise ValueError("escalate_after and escalate_to need each other")
        if not all(name.strip() for name in self.escalate_to):
            raise ValueError("a name in escalate_to is empty")
        return self

    @property
    def patience(self) -> timedelta | None:
        """How long a question waits before it is denied."""
        return None if self.timeout is None else parse_span(self.timeout)

    @property
    def turn(self) -> timedelta | None:
        """How long each in the list is waited for."""
        return None if self.escalate_after is None else parse_span(self.escalate_after)
