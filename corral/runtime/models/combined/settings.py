"""``[models.NAME]``: several models under one name, and when which of them is asked."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

Confidence = Literal["logprob", "agreement", "judge"]
"""How sure a model is: the mean probability of its answer's tokens, how many of several samples
say the same, or how many of ten points a judge gives."""


class RouteRule(BaseModel):
    """One rule of a route: where a request goes for which all that is said here is true."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(default="", description="The model that is asked.")
    cheapest: tuple[str, ...] = Field(
        default=(), description="Or models, of which the cheapest that has room for it is asked."
    )
    tools: bool | None = Field(default=None, description="Whether tools are offered.")
    images: bool | None = Field(default=None, description="Whether there are images in it.")
    reasoning: bool | None = Field(default=None, description="Whether it asks to reason.")
    min_tokens: int | None = Field(default=None, ge=0, description="Its least size, estimated.")
    max_tokens: int | None = Field(default=None, ge=0, description="Its largest size, estimated.")
    agents: tuple[str, ...] = Field(default=(), description="The agents that ask.")
    purposes: tuple[str, ...] = Field(
        default=(), description="What is asked for: answer, summary, check."
    )
    tags: tuple[str, ...] = Field(default=(), description="Tags of the run, of which it has one.")
    words: tuple[str, ...] = Field(
        default=(), description="Words, of which one is in what the user wrote last."
    )

    @model_validator(mode="after")
    def _one_target(self) -> RouteRule:
        if bool(self.model) == bool(self.cheapest):
            raise ValueError("give a rule either a model or cheapest")
        return self

    @property
    def targets(self) -> tuple[str, ...]:
        """The references that it can lead to."""
        return self.cheapest or (self.model,)


class CombinedModel(BaseModel):
    """Several models under one name. Exactly one of ``fallback``, ``cascade`` and ``route``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fallback: tuple[str, ...] = Field(
        default=(), description="The models in order: the next is asked when one fails."
    )
    hedge_ms: int | None = Field(
        default=None,
        ge=1,
        description="With fallback: ask the next one too when nothing has come for so long.",
    )
    refusals: bool = Field(
        default=False, description="With fallback: ask the next one also when one refuses."
    )
    cascade: tuple[str, ...] = Field(
        default=(), description="The models, the cheapest first: the next when one is not sure."
    )
    confidence: Confidence = Field(
        default="logprob", description="With cascade: how it is found out how sure a model is."
    )
    threshold: float = Field(
        default=0.7, ge=0, le=1, description="With cascade: how sure is sure enough."
    )
    samples: int = Field(
        default=3, ge=2, le=9, description="With confidence agreement: how many answers are made."
    )
    judge: str | None = Field(
        default=None, description="With confidence judge: the model that judges."
    )
    route: tuple[RouteRule, ...] = Field(
        default=(), description="Rules: the first that fits says which model is asked."
    )
    default: str | None = Field(
        default=None, description="With route: the model for which no rule fits."
    )

    @model_validator(mode="after")
    def _one_kind(self) -> CombinedModel:
        if sum(map(bool, (self.fallback, self.cascade, self.route))) != 1:
            raise ValueError("give exactly one of fallback, cascade and route")
        if bool(self.route) != (self.default is not None):
            raise ValueError("a route needs a default, and only a route has one")
        if (self.confidence == "judge") != (self.judge is not None):
            raise ValueError('judge names a model for confidence = "judge"')
        return self

    @property
    def references(self) -> tuple[str, ...]:
        """All models that are asked, in the order in which they are named."""
        routed = [target for rule in self.route for target in rule.targets]
        others = [one for one in (self.default, self.judge) if one is not None]
        return tuple(dict.fromkeys((*self.fallback, *self.cascade, *routed, *others)))
