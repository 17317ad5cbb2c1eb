"""Tables of cases: calls, and what a policy is expected to say to them.

policy = "workspace"                 # optional: the preset or file that is chosen

[[cases]]
name = "reports are free"
tool = "files__write_file"
args = {path = "reports/a.md"}
expect = "allow"
rule = "corral.toml, line 3"         # optional: who decides
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from corral.jsontypes import JsonObject
from corral.policies.facts import ToolCall
from corral.policies.layers import Layered, decide
from corral.policies.provenance.labels import PUBLIC, Label
from corral.policies.rules import Action, Decision, Name
from corral.policies.writing.documents import Document, as_toml, suggest
from corral.policies.writing.tables import Place, read_table

DEFAULT_AGENT = "assistant"
"""The agent that asks where none is named."""


@dataclass(frozen=True)
class KnownTool:
    """What is known of a tool before it is called: its hints, and where it runs."""

    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False
    open_world: bool = True
    sandboxed: bool = False
    network: bool = True
    remote: bool = False


class Facts(BaseModel):
    """The facts of a call, as far as somebody says them; the others are those of the tool.

    ``said`` is what the user has written. ``untrusted`` and ``private`` say what had been read.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tool: Name
    args: dict[str, Any] = Field(default_factory=dict)
    agent: str = DEFAULT_AGENT
    depth: Annotated[StrictInt, Field(ge=0, le=100)] = 0
    untrusted: StrictBool = False
    private: StrictBool = False
    said: tuple[str, ...] = ()
    at: datetime | None = None
    read_only: StrictBool | None = None
    destructive: StrictBool | None = None
    idempotent: StrictBool | None = None
    open_world: StrictBool | None = None
    sandboxed: StrictBool | None = None
    network: StrictBool | None = None
    remote: StrictBool | None = None
    holds_secret: StrictBool = False
    links: dict[str, str] = Field(default_factory=dict)

    def call(self, known: KnownTool, workspace: str) -> ToolCall:
        """The call in a workspace, of a tool of which something is known."""
        hints = {
            name: value if (value := getattr(self, name)) is not None else getattr(known, name)
            for name in KnownTool.__dataclass_fields__
        }
        read = tuple(name for name in ("untrusted", "private") if getattr(self, name))
        label = Label(
            tuple(f"{name} content" for name in read),
            self.untrusted,
            frozenset() if self.private else None,
        )
        return ToolCall(
            name=self.tool,
            args=self.args,
            workspace=workspace,
            agents=(*("",) * self.depth, self.agent),
            label=label if read else PUBLIC,
            user_texts=self.said,
            links=self.links,
            holds_secret=self.holds_secret,
            at=self.at,
            **hints,
        )


class Case(Facts):
    """A call and what is expected: the action and, if given, the rule (its label or its source)."""

    name: str = ""
    expect: Action
    rule: str | None = None


@dataclass(frozen=True)
class Table:
    """The cases of a file, each with its line, and the policy that they are about."""

    source: str
    policy: str | None
    cases: tuple[Case, ...]
    lines: tuple[int | None, ...]


@dataclass(frozen=True)
class Outcome:
    """What became of a case; ``differs`` says what is not as expected, if anything."""

    case: Case
    source: str
    decision: Decision
    differs: str

    def to_json(self) -> JsonObject:
        """This outcome as a JSON object."""
        return {
            "name": self.case.name,
            "tool": self.case.tool,
            "args": self.case.args,
            "source": self.source,
            "expected": self.case.expect,
            "decision": dict(self.decision.__dict__),
            "ok": not self.differs,
            "differs": self.differs,
        }


def parse_cases(text: str, source: str) -> Table:
    """Read a table of cases. Raises ``ConfigError`` with the line and the remedy."""
    document = Document(text, source)
    data = document.load()
    for key in data:
        if key not in ("policy", "cases"):
            hint = suggest(key, ("policy", "cases")) or 'Use "policy" or [[cases]].'
            raise document.error(
                f"{key!r} means nothing in a table of cases", hint, document.line_of(key)
            )
    policy = data.get("policy")
    if policy is not None and not isinstance(policy, str):
        raise document.error(
            f"policy = {as_toml(policy)} is not a text",
            "Name a preset or a policy file.",
            document.line_of("policy"),
        )
    tables = document.tables(data, "cases")
    cases = tuple(
        read_table(Case, table, Place(document, "cases", "case", number))
        for number, table in enumerate(tables, start=1)
    )
    lines = tuple(document.line_of_table("cases", n) for n in range(1, len(cases) + 1))
    return Table(source, policy, cases, lines)


def run_cases(
    table: Table, policy: Layered, known: Callable[[str], KnownTool], workspace: str
) -> list[Outcome]:
    """Decide on every case of a table."""
    found = []
    for case, line in zip(table.cases, table.lines, strict=True):
        decision = decide(policy, case.call(known(case.tool), workspace))
        source = table.source if line is None else f"{table.source}, line {line}"
        found.append(Outcome(case, source, decision, _difference(case, decision)))
    return found


def _difference(case: Case, decision: Decision) -> str:
    if decision.action != case.expect:
        return f"{case.expect} was expected, but it is {decision.action}: {decision.reason}"
    names = (decision.rule, decision.source, decision.source.rsplit("/", 1)[-1], decision.layer)
    if case.rule is not None and case.rule not in names:
        decided = decision.rule or f"the layer {decision.layer}"
        where = f" ({decision.source})" if decision.source else ""
        return f"{case.rule} was expected to decide, but {decided}{where} did"
    return ""
