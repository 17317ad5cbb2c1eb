"""What an export says of a question besides its call, as ``stations/context.py`` lists it.

What belongs to the machine where it was asked stays there: the facts that its rules were tried on,
the rules that "always" could add, and the files that rules came from.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from corral.jsontypes import JsonObject
from corral.policies.budgets import AccountKind

_MOST = 2**53

_Count = Annotated[int, Field(ge=0, le=_MOST)]
_Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Name = Annotated[str, Field(max_length=2000)]
_Names = Annotated[list[_Name], Field(max_length=1000)]
_Texts = Annotated[list[str], Field(max_length=10_000)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Asker(_Part):
    """An agent that asks, or on whose behalf, and what it was told to do."""

    agent: _Name
    task: str


class Spent(_Part):
    """What the run had used."""

    steps: _Count
    input_tokens: _Count
    output_tokens: _Count
    cost_usd: _Amount
    cached_tokens: _Count = 0
    reasoning_tokens: _Count = 0


class Limits(_Part):
    """What it may use."""

    max_steps: _Count
    max_repeats: _Count
    max_tokens: _Count | None = None


class Used(_Part):
    """How far a limit of a budget was used."""

    account: AccountKind
    words: _Name
    measure: _Name
    used: _Count | _Amount
    limit: _Count | _Amount


class Read(_Part):
    """What the model had read."""

    sources: _Names
    untrusted: bool
    private: bool


class Asking(_Part):
    """The rule that asked."""

    label: _Name | None
    layer: _Name
    reasons: _Texts
    doubted: bool
    every_time: bool


class Tool(_Part):
    """What the server says of the tool."""

    description: str
    trusted: bool
    read_only: bool
    destructive: bool
    open_world: bool


class File(_Part):
    """What would change in a file."""

    path: str
    digest: _Name
    diff: _Texts
    cut: _Count
    problem: str | None


class Command(_Part):
    """A command that would run."""

    argv: _Texts
    unknown: Annotated[list[_Count], Field(max_length=10_000)]
    via: _Texts
    opaque: bool


class Advice(_Part):
    """What a model said that did not decide."""

    by: _Name
    answer: _Name
    reason: str


class Loop(_Part):
    """How an agent went round in circles."""

    kind: _Name
    seen: str


class Context(_Part):
    """All of it; what a question has not is left out."""

    agents: Annotated[list[Asker], Field(max_length=1000)] = []
    spent: Spent | None = None
    limits: Limits | None = None
    budgets: Annotated[list[Used], Field(max_length=1000)] = []
    read: Read | None = None
    rule: Asking | None = None
    tool: Tool | None = None
    file: File | None = None
    commands: Annotated[list[Command], Field(max_length=10_000)] = []
    hosts: Annotated[list[str], Field(max_length=10_000)] = []
    advice: Annotated[list[Advice], Field(max_length=1000)] = []
    loop: Loop | None = None


def portable_context(context: JsonObject) -> JsonObject:
    """A question's context without what belongs to this machine."""
    kept = {name: value for name, value in context.items() if name in Context.model_fields}
    rule: Any = kept.get("rule")
    return {**kept, "rule": _without_source(rule)} if rule else kept


def _without_source(rule: JsonObject) -> JsonObject:
    return {name: value for name, value in rule.items() if name != "source"}
