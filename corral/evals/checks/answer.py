"""Checks of a run's final answer."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from corral.evals.answers import find_json, look_up, numbers, parse_path
from corral.evals.checks.base import Check, Content, Texts, brief, same
from corral.evals.grading import Evidence


class _TextCheck(Check):
    ignore_case: bool = False

    def _folded(self, text: str) -> str:
        return text.casefold() if self.ignore_case else text


class Equals(_TextCheck):
    """The answer is exactly this text."""

    key = "equals"
    equals: Content

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        if self._folded(evidence.output) == self._folded(self.equals.strip()):
            return None
        return f"the answer is {brief(evidence.output)}"


class Contains(_TextCheck):
    """The answer contains this text, or these: a list (all of them), ``any`` or ``all``."""

    key = "contains"
    contains: Texts

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        output = self._folded(evidence.output)
        missing = [t for t in self.contains.all if self._folded(t) not in output]
        if missing:
            return f"the answer lacks {brief(missing)}: {brief(evidence.output)}"
        if self.contains.any and not any(self._folded(t) in output for t in self.contains.any):
            return f"the answer has none of them: {brief(evidence.output)}"
        return None


class NotContains(_TextCheck):
    """The answer contains none of these texts."""

    key = "not_contains"
    not_contains: Texts

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        output = self._folded(evidence.output)
        unwanted = (*self.not_contains.all, *self.not_contains.any)
        found = [text for text in unwanted if self._folded(text) in output]
        return f"the answer contains {brief(found)}" if found else None


class Regex(_TextCheck):
    """The answer holds a match of this regular expression (``.`` also matches a new line)."""

    key = "regex"
    regex: str

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from error
        return value

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        flags = re.DOTALL | re.MULTILINE | (re.IGNORECASE if self.ignore_case else 0)
        if re.search(self.regex, evidence.output, flags):
            return None
        return f"no match in {brief(evidence.output)}"


class JsonEquals(Check):
    """The JSON in the answer equals this value, whatever the order of its keys."""

    key = "json_equals"
    json_equals: Any

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        try:
            found = find_json(evidence.output)
        except ValueError as error:
            return str(error)
        return None if same(found, self.json_equals) else f"found {brief(found)}"


class PathAndValue(BaseModel):
    """A path into JSON, and the value there; without ``equals``, anything but ``null``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    equals: Any = None

    @field_validator("path")
    @classmethod
    def _parses(cls, value: str) -> str:
        parse_path(value)
        return value


class JsonPath(Check):
    """The JSON in the answer holds this value at a path such as ``$.items[0].name``."""

    key = "json_path"
    json_path: PathAndValue

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        try:
            found = look_up(find_json(evidence.output), self.json_path.path)
        except (ValueError, LookupError) as error:
            return str(error.args[0])
        if "equals" not in self.json_path.model_fields_set:
            return None if found is not None else f"{self.json_path.path} is null"
        return None if same(found, self.json_path.equals) else f"found {brief(found)}"


class Number(BaseModel):
    """A number; ``pick`` says which number of the answer must be within ``tolerance`` of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    tolerance: float = Field(default=1e-9, ge=0)
    pick: Literal["last", "first", "any"] = "last"


class Numeric(Check):
    """The last number of the answer (or the first, or any) is this one."""

    key = "numeric"
    numeric: Annotated[
        Number, BeforeValidator(lambda v: {"value": v} if isinstance(v, int | float) else v)
    ]

    def failure(self, evidence: Evidence) -> str | None:
        """See ``Check.failure``."""
        found = numbers(evidence.output)
        if not found:
            return f"no number in {brief(evidence.output)}"
        number = self.numeric
        picked = {"last": found[-1:], "first": found[:1], "any": found}[number.pick]
        if any(abs(one - number.value) <= number.tolerance for one in picked):
            return None
        return f"found {', '.join(f'{one:g}' for one in picked[:5])}"
