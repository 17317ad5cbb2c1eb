"""Checks: what looks at a text on its way in or out, and what follows when it finds something.

A check is a function, a regular expression, or a question that a model answers. Whether a text
passes is found out elsewhere (``runtime/checking.py``); here is what a check is, and what follows.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SkipValidation, model_validator

from corral.jsontypes import JsonObject
from corral.policies.patterns.globs import compile_glob

Where = Literal["input", "output", "tool_call", "tool_result"]
OnFail = Literal["block", "fix", "reask", "flag"]

CheckFunction = Callable[[str], str | bool | Awaitable[str | bool | None] | None]
"""Gets the text. ``None`` and ``True``: it passes; a text: why not, or for ``fix`` the new text."""

REFUSED = "was refused"
"""How the error of a run says that a check has stopped it, before the check's own words."""

_NO_REASK = ("input", "tool_result")


class Check(BaseModel):
    """A check, as configured under ``[[checks]]`` or made by ``corral.check``.

    ``on`` says what it looks at: the user's prompt, the model's answer, the arguments of a tool
    call (as a JSON text) or a tool's result. It has one of ``pattern`` (refuses a text in which it
    is found), ``require`` (one in which it is not), ``judge`` (what a model must find so) or a
    function.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str = Field(min_length=1, description="What it is called in the journal and in messages.")
    on: Where = Field(description="What it looks at.")
    on_fail: OnFail = Field(
        default="block",
        description="block: the run stops, or the call is refused; fix: the text is replaced; "
        "reask: the model is asked again; flag: it is recorded and told.",
    )
    pattern: str | None = Field(default=None, description="A regular expression to refuse.")
    require: str | None = Field(default=None, description="A regular expression to insist on.")
    replace: str | None = Field(default=None, description="For fix: what replaces the pattern.")
    judge: str | None = Field(default=None, description="For a model: what must be so.")
    model: str | None = Field(default=None, description="The judge; the agent's own if left out.")
    reason: str = Field(default="", description="What is said when it fails.")
    tools: tuple[str, ...] = Field(default=("*",), description="Only for these tools' calls.")
    retries: int = Field(default=2, ge=1, le=10, description="For reask: how often.")
    code: str = Field(default="", description="Set by corral.check: its function's name.")
    function: SkipValidation[CheckFunction | None] = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="after")
    def _check(self) -> Check:
        ways = {"pattern": self.pattern, "require": self.require, "judge": self.judge}
        given = [name for name, value in ways.items() if value is not None]
        given += ["a function"] if self.code else []
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(
                f"the check {self.name!r} needs one of pattern, require and judge, and has {found}"
            )
        _require_pattern(self.name, self.pattern or self.require)
        if self.on_fail == "reask" and self.on in _NO_REASK:
            raise ValueError(
                f"the check {self.name!r} cannot ask again about {self.on}: use block, fix or flag"
            )
        if self.on_fail == "fix" and self.pattern is None and not self.code:
            raise ValueError(
                f"the check {self.name!r} needs a pattern with replace to fix anything"
            )
        if (self.replace is not None) != (self.on_fail == "fix" and self.pattern is not None):
            raise ValueError(
                f"the check {self.name!r}: replace belongs to a pattern with on_fail = 'fix'"
            )
        return self

    def concerns(self, on: Where, tool: str = "") -> bool:
        """Whether the check looks at this."""
        return self.on == on and (
            not tool or any(compile_glob(pattern).matches(tool) for pattern in self.tools)
        )

    @property
    def must_come_before(self) -> bool:
        """Whether nobody may see the text before it has passed."""
        return self.on_fail != "flag"


def check(
    function: Callable[[str], Any], *, on: Where, on_fail: OnFail = "block", **fields: Any
) -> Check:
    """A check that ``function`` makes, for ``Agent(checks=(…,))``; ``fields`` as in ``Check``.

    It is called with the text and returns ``None`` if that passes. Otherwise it returns the reason,
    or with ``on_fail="fix"`` the new text. ``False`` and what it raises are a failure, too. It may
    be ``async``, and sees placeholders where something was redacted.
    """
    name = str(getattr(function, "__name__", "check"))
    made = {"name": name, "on": on, "on_fail": on_fail, **fields}
    return Check(**made, code=name, function=function)


@dataclass(frozen=True)
class Finding:
    """A check that a text did not pass, and what was done. ``text`` is the new one of a ``fix``."""

    check: Check
    reason: str
    did: OnFail
    text: str | None = None

    def to_json(self) -> JsonObject:
        """What the journal keeps of it."""
        return {
            "check": self.check.name,
            "on": self.check.on,
            "did": self.did,
            "reason": self.reason,
        }

    @property
    def in_words(self) -> str:
        """Which check it was, and why."""
        return f"the check {self.check.name!r} failed: {self.reason}"


def follows(check: Check, verdict: str | bool | None) -> Finding | None:
    """What a check's verdict means; ``None`` if the text passes."""
    if verdict is None or verdict is True:
        return None
    reason = check.reason or _default_reason(check)
    if check.on_fail == "fix" and isinstance(verdict, str):
        return Finding(check, reason, "fix", verdict)
    if check.on_fail == "fix":
        return Finding(check, f"{reason} (and cannot be mended)", "block")
    return Finding(
        check, verdict if isinstance(verdict, str) and verdict else reason, check.on_fail
    )


def broken(check: Check, error: Exception) -> Finding:
    """A check that could not be made refuses: what it guards must not pass unseen."""
    reason = f"it could not be made: {type(error).__name__}: {error}"
    return Finding(check, reason, "flag" if check.on_fail == "flag" else "block")


def strictest(findings: Iterable[Finding]) -> Finding | None:
    """The finding after which the text cannot go on as it is."""
    decisive = [finding for finding in findings if finding.did in ("block", "reask")]
    return min(decisive, key=lambda finding: finding.did, default=None)


def _require_pattern(name: str, pattern: str | None) -> None:
    if pattern is None:
        return
    regex = import_module("regex")
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(
            f"the pattern of the check {name!r} is no regular expression: {error}"
        ) from error


def _default_reason(check: Check) -> str:
    if check.pattern is not None:
        return "it holds what must not be there"
    if check.require is not None:
        return "it lacks what must be there"
    return f"it does not satisfy: {check.judge}" if check.judge else "it is not acceptable"
