"""What becomes of calls that untrusted content may have asked for: ``[provenance]``."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from corral.policies.provenance.guard import OnUntrusted


class ProvenanceSettings(BaseModel):
    """How strict the guard is; only the user's own settings say so."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    on_untrusted: OnUntrusted = Field(
        default="ask",
        description="What happens to a call that content from outside may have asked for: ask, "
        "deny, or off.",
    )
