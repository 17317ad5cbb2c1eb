"""Sections of the configuration: agents, snapshots, retention and sampling."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from corral.jsontypes import JsonObject
from corral.policies.budgets import Budget
from corral.policies.checks import Check
from corral.policies.limits import RunLimits
from corral.policies.loops import LoopSettings
from corral.runtime.agent_policy import AgentPolicy
from corral.runtime.models.combined.references import ModelReference


class SamplingConfig(BaseModel):
    """Sampling parameters of a model; what is left out is the model's own default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    temperature: float | None = Field(default=None, ge=0, le=2)
    top_p: float | None = Field(default=None, gt=0, le=1)
    max_tokens: int | None = Field(default=None, ge=1, description="Longest answer, in tokens.")
    seed: int | None = Field(default=None, ge=0)
    stop: tuple[str, ...] = Field(default=(), max_length=16, description="Texts that end it.")
    top_k: int | None = Field(default=None, ge=1)
    min_p: float | None = Field(default=None, ge=0, le=1)
    repeat_penalty: float | None = Field(default=None, gt=0, le=2)
    frequency_penalty: float | None = Field(default=None, ge=-2, le=2)
    presence_penalty: float | None = Field(default=None, ge=-2, le=2)
    logprobs: int | None = Field(
        default=None, ge=0, le=20, description="Keep each token's, and of so many likely ones."
    )


class AgentConfig(BaseModel):
    """An agent as configured under ``[agents.NAME]``; what is left out is the global setting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    instructions: str | None = Field(default=None, description="The system prompt.")
    description: str = Field(default="", description="What it is for, in one sentence.")
    model: ModelReference | None = Field(
        default=None, description="A model reference, or several that fall back."
    )
    servers: tuple[str, ...] | None = Field(
        default=None, description="The tool servers that it may use; all when left out."
    )
    tools: tuple[str, ...] | None = Field(
        default=None, description="The tools (SERVER__TOOL) that it may use; all when left out."
    )
    offered: int | None = Field(
        default=None, ge=0, description="How many tools at once, instead of [tools]."
    )
    tool_choice: Literal["auto", "first", "none"] = Field(
        default="auto",
        description="auto: the model decides; first: a run begins with a tool call and the "
        "answer follows; none: no tools are offered.",
    )
    agents: tuple[str, ...] = Field(
        default=(), description="Other agents that it may give tasks to."
    )
    pattern: str = Field(default="react", description="How it works: see `corral agents patterns`.")
    options: JsonObject = Field(
        default_factory=dict, description="Of the pattern: rounds, a threshold, who judges, ..."
    )
    facts: int = Field(default=5, ge=0, description="Remembered facts given to a run.")
    limits: RunLimits | None = None
    loops: LoopSettings | None = None
    budget: Budget | None = Field(
        default=None, description="What it may spend on one task, as in [budgets.run]."
    )
    policy: AgentPolicy | None = Field(
        default=None,
        description="What it and the agents below it may do at most: a preset, a file, rules.",
    )
    sampling: SamplingConfig = SamplingConfig()
    reasoning: Literal["none", "low", "medium", "high"] | None = Field(
        default=None, description="How hard a model that can reason does."
    )
    returns: JsonObject | None = Field(
        default=None, description="A JSON Schema that its answers fit; free text when left out."
    )
    checks: tuple[Check, ...] = Field(
        default=(), description="What looks at its prompts, answers, calls and results."
    )


class SnapshotConfig(BaseModel):
    """What is kept of the workspace before a run first changes it, to be able to rewind it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    enabled: bool = Field(default=True, description="false: a rewind leaves the files alone.")
    max_file_mb: float = Field(default=10, gt=0, le=200, description="Larger files are left out.")
    max_total_mb: float = Field(
        default=500, gt=0, description="A workspace with more in it than that is not kept."
    )
    max_files: int = Field(
        default=50_000, ge=1, description="Nor one with more files and folders than that."
    )
    exclude: tuple[str, ...] = Field(
        default=(
            "node_modules",
            ".venv",
            "__pycache__",
            ".mypy_cache",
            ".pytest_cache",
            ".ruff_cache",
            ".tox",
        ),
        description="Names (or, with a /, paths in the workspace) that are left out; * is a "
        "wildcard.",
    )


class RetentionConfig(BaseModel):
    """What ``corral gc`` lets go when it is not told; by itself nothing is ever removed."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    older_than: str | None = Field(
        default=None, pattern=r"^\d{1,6}\s*[hdwHDW]$", description="An age: 12h, 30d, 8w."
    )
    keep: int | None = Field(default=None, ge=1, description="A thread's newest runs that stay.")
