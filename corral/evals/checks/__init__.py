"""The deterministic checks of a case: what its answer, its calls, its cost and its files must be.

In a dataset a check is a mapping with the check's name as a key::

    expect:
      - contains: "42"
      - tool_called: {name: python__run_code, times: 1}
      - max_steps: 3

Checks of text compare with the run's final answer, white space around it removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Discriminator, Tag

from corral.evals.checks.answer import (
    Contains,
    Equals,
    JsonEquals,
    JsonPath,
    NotContains,
    Numeric,
    Regex,
)
from corral.evals.checks.base import Check
from corral.evals.checks.run import (
    FileContains,
    MaxSteps,
    MaxTokens,
    Status,
    ToolCalled,
    ToolNotCalled,
)

__all__ = ["CHECKS", "AnyCheck", "Check", "Status"]

CHECKS: tuple[type[Check], ...] = (
    Equals,
    Contains,
    NotContains,
    Regex,
    JsonEquals,
    JsonPath,
    Numeric,
    ToolCalled,
    ToolNotCalled,
    Status,
    MaxSteps,
    MaxTokens,
    FileContains,
)
"""All checks there are."""

_KEYS = tuple(check.key for check in CHECKS)


def _kind(value: object) -> str | None:
    """Which check a mapping is; ``None`` when it names none, or several."""
    if isinstance(value, Check):
        return value.key
    found = [key for key in value if key in _KEYS] if isinstance(value, Mapping) else []
    return found[0] if len(found) == 1 else None


AnyCheck = Annotated[
    Annotated[Equals, Tag("equals")]
    | Annotated[Contains, Tag("contains")]
    | Annotated[NotContains, Tag("not_contains")]
    | Annotated[Regex, Tag("regex")]
    | Annotated[JsonEquals, Tag("json_equals")]
    | Annotated[JsonPath, Tag("json_path")]
    | Annotated[Numeric, Tag("numeric")]
    | Annotated[ToolCalled, Tag("tool_called")]
    | Annotated[ToolNotCalled, Tag("tool_not_called")]
    | Annotated[Status, Tag("status")]
    | Annotated[MaxSteps, Tag("max_steps")]
    | Annotated[MaxTokens, Tag("max_tokens")]
    | Annotated[FileContains, Tag("file_contains")],
    Discriminator(
        _kind,
        custom_error_type="unknown_check",
        custom_error_message=f"expected a mapping with one of: {', '.join(_KEYS)}",
    ),
]
"""Any check, as a dataset writes it."""
