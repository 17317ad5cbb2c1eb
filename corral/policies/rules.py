"""Rules: which tool calls are allowed, asked about or denied, and the policies that hold them.

A rule says what must be true of a call, what happens to such calls, and why. The first rule of a
policy that matches is the policy's opinion; how the opinions of several policies make a decision
is in ``layers.py``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, field_validator

from corral.policies.patterns.arguments import ArgumentPattern
from corral.policies.patterns.commands import parse_command_pattern
from corral.policies.patterns.urls import parse_url_pattern
from corral.policies.provenance.capabilities import Capability
from corral.policies.provenance.sources import SourceRule

Action = Literal["allow", "ask", "deny"]
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
LayerName = Literal["organisation", "project", "user", "session", "agent"]

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[StrictInt, Field(ge=0)]


class Depth(BaseModel):
    """How deep in the tree of agents the asking one is: 0 is the run's own agent."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: Count = 0
    max: Count | None = None

    def holds(self, depth: int) -> bool:
        """Whether a depth lies within."""
        return self.min <= depth and (self.max is None or depth <= self.max)

    def in_words(self) -> str:
        """The range, to stand after "the depth is"."""
        if self.max is None:
            return f"at least {self.min}"
        return str(self.min) if self.min == self.max else f"from {self.min} to {self.max}"


class Rule(BaseModel):
    """One rule. All that it names must be true of the call.

    Names (``server``, ``tool``, ``agent``) are exact unless they hold ``*`` (any characters) or
    ``?`` (one). ``tool`` is SERVER__TOOL, or the part after ``__`` where ``server`` is given.
    ``args`` holds patterns for arguments by their names, see ``patterns/arguments.py``; the
    argument must be there. ``paths``, ``hosts`` and ``commands`` are patterns for all that is one
    in the arguments, whatever they are called: an ``allow`` needs each to fit one of them, any
    other action one to fit.

    ``untrusted`` and ``private`` are about what the model had read when it asked, ``can`` about
    what the call is able to do (any of them), and ``from_user`` names arguments that stand
    word for word in what the user wrote (``*``: all). Times are local; a rule with ``until`` holds
    before it. ``every_time``: nobody can answer such a question ahead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    server: Name | None = Field(default=None, description="The server's name, or a pattern.")
    tool: Name = Field(default="*", description="The tool's name, or a pattern.")
    args: dict[str, ArgumentPattern] = Field(
        default_factory=dict, description="Patterns of arguments."
    )
    paths: tuple[Name, ...] = Field(
        default=(), description="Patterns of any argument that is a path."
    )
    hosts: tuple[Name, ...] = Field(
        default=(), description="Patterns of the hosts in URLs of any argument."
    )
    commands: tuple[Name, ...] = Field(
        default=(), description="Patterns of the commands in any argument that is one."
    )
    read_only: StrictBool | None = Field(
        default=None, description="Only calls that change nothing (true) or that may (false)."
    )
    destructive: StrictBool | None = Field(
        default=None, description="Only calls that may destroy something (true) or not (false)."
    )
    idempotent: StrictBool | None = Field(
        default=None, description="Only calls that may be repeated (true) or not (false)."
    )
    open_world: StrictBool | None = Field(
        default=None, description="Only tools that reach the outside (true) or not (false)."
    )
    sandboxed: StrictBool | None = Field(
        default=None, description="Only tools that run in the sandbox (true) or outside (false)."
    )
    within_workspace: StrictBool = Field(
        default=False, description="Only calls of which no path leaves the granted folder."
    )
    exact_args: StrictBool = Field(
        default=False, description="Only calls without any argument that `args` does not name."
    )
    agent: Name | None = Field(default=None, description="The asking agent's name, or a pattern.")
    depth: Depth | None = Field(
        default=None, description="Its depth in the tree of agents, or {min = 1, max = 3}."
    )
    untrusted: StrictBool | None = Field(
        default=None, description="Only where untrusted content was read (true) or none (false)."
    )
    private: StrictBool | None = Field(
        default=None, description="Only where private content was read (true) or none (false)."
    )
    can: tuple[Capability, ...] = Field(
        default=(), description="Only calls that can send, change, irreversible or secret."
    )
    from_user: tuple[Name, ...] = Field(
        default=(), description="Arguments that come verbatim from the user; * for all."
    )
    after: time | None = Field(default=None, description="From this time of the day on.")
    before: time | None = Field(default=None, description="Until this time of the day.")
    days: tuple[Day, ...] = Field(default=(), description="On these days of the week.")
    until: datetime | None = Field(default=None, description="Only before this date and time.")
    every_time: StrictBool = Field(
        default=False, description="An ask that no standing answer answers."
    )
    action: Action = Field(description="What happens to a call that matches.")
    reason: str = Field(default="", description="Shown to the user and to the model.")

    @field_validator("args")
    @classmethod
    def _are_of_their_kind(cls, value: dict[str, ArgumentPattern]) -> dict[str, ArgumentPattern]:
        """The short form is known to be of a kind only together with its name."""
        for name, pattern in value.items():
            texts = pattern.patterns(name)
            for url in texts.get("url", ()):
                parse_url_pattern(url)
            for command in texts.get("command", ()):
                parse_command_pattern(command)
        return value

    @field_validator("depth", mode="before")
    @classmethod
    def _is_range(cls, value: Any) -> Any:
        return {"min": value, "max": value} if isinstance(value, int) else value

    @field_validator("hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_host, value))

    @field_validator("commands")
    @classmethod
    def _are_commands(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            parse_command_pattern(pattern)
        return value

    @field_validator("after", "before", mode="before")
    @classmethod
    def _is_time(cls, value: Any) -> Any:
        if value is None or (isinstance(value, time) and value.tzinfo is None):
            return value
        if isinstance(value, str) and re.fullmatch(r"\d\d:\d\d(:\d\d)?", value):
            return value
        raise ValueError('Write a local time of the day, such as "09:00"')

    @field_validator("until", mode="before")
    @classmethod
    def _is_date(cls, value: Any) -> Any:
        if value is None or isinstance(value, date | str):
            return value
        raise ValueError("Write a date, or a date and time, such as 2027-01-31T18:00:00")

    @property
    def loosens(self) -> bool:
        """Whether it lets calls through: it is then matched strictly, in doubt not at all."""
        return self.action == "allow"

    def conditions_json(self) -> str:
        """All that it asks of a call, as a text: two rules for the same calls have the same."""
        return self.model_dump_json(exclude={"action", "reason", "every_time"})

    def to_json(self) -> dict[str, Any]:
        """This rule as JSON, without what it leaves open; ``model_validate`` reads it back."""
        return self.model_dump(mode="json", exclude_defaults=True)


@dataclass(frozen=True)
class Decision:
    """What happens to a call, why, and by which rule; ``rule`` is ``None`` where none matched.

    ``layer`` says whose opinion it is, ``source`` in which file and line the rule stands.
    """

    action: Action
    reason: str
    rule: str | None
    layer: str = ""
    source: str = ""


@dataclass(frozen=True)
class Policy:
    """Named rules in their order, followed by those of ``base``.

    ``files`` are the files that the rules come from: no agent may write them. ``lines`` says on
    which line of the first file each rule begins, as far as that is known. ``sources`` say what
    the results of tools are worth.
    """

    name: str
    rules: tuple[Rule, ...] = ()
    base: Policy | None = None
    files: tuple[str, ...] = ()
    layer: LayerName = "user"
    lines: tuple[int | None, ...] = ()
    sources: tuple[SourceRule, ...] = ()

    def placed(self) -> Iterator[Placed]:
        """All rules in the order in which they are asked."""
        for number, rule in enumerate(self.rules, start=1):
            line = self.lines[number - 1] if number <= len(self.lines) else None
            yield Placed(rule, self.name, number, self.files[0] if self.files else "", line)
        if self.base is not None:
            yield from self.base.placed()

    def all_sources(self) -> Iterator[tuple[SourceRule, ...]]:
        """What this policy and each of its bases says of the results of tools."""
        if self.sources:
            yield self.sources
        if self.base is not None:
            yield from self.base.all_sources()

    def all_files(self) -> Iterator[str]:
        """The files of this policy and of its bases."""
        yield from self.files
        if self.base is not None:
            yield from self.base.all_files()


@dataclass(frozen=True)
class Placed:
    """A rule and where it stands: the ``number``-th of its policy; ``file`` may be empty."""

    rule: Rule
    policy: str
    number: int
    file: str
    line: int | None

    @property
    def label(self) -> str:
        """The rule's name in words."""
        return f"rule {self.number} of {self.policy}"

    @property
    def source(self) -> str:
        """File and line, as far as they are known."""
        return self.file if self.line is None else f"{self.file}, line {self.line}"


def _host(pattern: str) -> str:
    """A pattern of hosts in the form in which hosts are compared."""
    read = parse_url_pattern(pattern)
    if read.scheme or read.port or read.path is not None:
        raise ValueError(f'{pattern!r} is more than a host: write "{read.host}"')
    return read.host
