"""``[tools]``: how many of its tools an agent is offered at once, and which of them always."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ToolsSettings(BaseModel):
    """How tools are offered. An agent that names its tools gets exactly those."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    offered: int = Field(
        default=15,
        ge=0,
        description="An agent with more tools than this is offered those that fit the request "
        "best, so many of them as a rule: half as many where few fit, up to twice as many where "
        "many fit alike; 0: all tools, always.",
    )
    always: tuple[str, ...] = Field(
        default=("files__*", "memory__*", "python__*"),
        description="Tools that are offered always and not counted; * is a wildcard.",
    )
