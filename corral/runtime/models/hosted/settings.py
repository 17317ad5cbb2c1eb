"""``[hosted]``: how models on somebody else's machine are asked."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class HostedSettings(BaseModel):
    """How hosted models are asked.

    The limits hold for each key at each address, over the whole process; rest is given to a model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    timeout: float = Field(default=120.0, gt=0, description="Seconds of silence that are borne.")
    max_retries: int = Field(default=4, ge=0, le=20, description="How often one call is retried.")
    concurrency: int = Field(default=16, ge=1, description="Calls at once.")
    requests_per_minute: int | None = Field(default=None, ge=1, description="Calls in a minute.")
    tokens_per_minute: int | None = Field(default=None, ge=1, description="Tokens in a minute.")
    breaker_failures: int = Field(
        default=5, ge=1, description="Failures in a row after which a model gets a rest."
    )
    breaker_seconds: float = Field(default=30.0, gt=0, description="How long that rest is.")
    prompt_cache: bool = Field(default=True, description="Use the providers' caches of prompts.")
