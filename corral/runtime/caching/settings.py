"""``[cache]``: answers of models that need not be made again."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

_AGE = r"^\d{1,6}\s*[hdwHDW]$"

AnswerKind = Literal["plain", "after_tools", "structured", "checks"]
"""What an answer is: plain text, made of what tools have returned, a value of a type that was asked
for, or a verdict."""


class CacheTtl(BaseModel):
    """How long answers are kept: an age such as 12h, 30d or 8w."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plain: str = Field(default="7d", pattern=_AGE, description="Answers without tools.")
    after_tools: str = Field(
        default="1h", pattern=_AGE, description="Answers made of what tools have returned."
    )
    structured: str = Field(default="30d", pattern=_AGE, description="Values of a type.")
    checks: str = Field(default="30d", pattern=_AGE, description="Verdicts of judges.")


class CacheSettings(BaseModel):
    """Which answers of models are kept to be given again, and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Literal["off", "exact", "semantic"] = Field(
        default="exact", description="exact: the very same request; semantic: one that means it."
    )
    when: Literal["deterministic", "always"] = Field(
        default="deterministic",
        description="deterministic: at temperature 0; always: whatever the temperature.",
    )
    ttl: CacheTtl = CacheTtl()
    max_answers: int = Field(
        default=10_000, ge=1, description="The least recently used beyond that are let go."
    )
    embedding: str = Field(
        default="local", description="With semantic: the model that compares prompts."
    )
    threshold: float = Field(
        default=0.97, gt=0, le=1, description="With semantic: how similar is the same."
    )
