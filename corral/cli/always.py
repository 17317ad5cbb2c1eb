"""Answers that hold for later calls as well: the options of ``--always``, and their preview."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corral.cli.context import current, open_records, wait
from corral.cli.output import clean, console, emit, emit_all, note, one_line
from corral.cli.preview import call_text
from corral.errors import UsageError

if TYPE_CHECKING:
    from corral.runtime.approvals.replies import Always
    from corral.runtime.views import Approval, PastCall

SHOWN = 10
"""Past calls that a preview lists; of more it says how many."""


@dataclass(frozen=True)
class RuleOptions:
    """The options of an answer that holds for later calls as well."""

    always: Annotated[
        bool, typer.Option("--always", help="Answer calls like this one so from now on.")
    ] = False
    rule: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="Which: a suggestion's number, or a rule as TOML."),
    ] = None
    scope: Annotated[
        Literal["run", "thread", "project", "user"], typer.Option(help="Where that holds.")
    ] = "project"
    until: Annotated[
        str | None, typer.Option(metavar="WHEN", help="When it ends: 90m, 7d, 2026-12-31.")
    ] = None
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the rule, and past calls that it fits.")
    ] = False
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False

    def chosen(self) -> Always | None:
        """What is said about later calls. Raises ``UsageError`` for options that need it."""
        from corral.runtime.approvals.replies import Always

        if not self.always and self.rule is None:
            if self.until is not None or self.scope != "project" or self.dry_run:
                raise UsageError(
                    "--scope, --until and --dry-run are about calls like this one.",
                    hint="Add --always, or leave them out.",
                )
            return None
        rule = int(self.rule) if self.rule is not None and self.rule.isdecimal() else self.rule
        return Always(rule, self.scope, self.until)


def preview(approval: str, always: Always, action: Literal["allow", "deny"], *, json: bool) -> None:
    """Show the rule that an answer would add, and the past calls that it fits. Stores nothing."""
    from corral.runtime.approvals.chosen import chosen_rule

    workspace = str(current().settings().workspace)

    async def look() -> tuple[str, list[PastCall]]:
        from corral.policies.conditions import describe
        from corral.runtime.approvals.rule_text import table_of

        async with open_records() as records:
            asked: Approval = await records.approval(approval)
            rule = chosen_rule(asked, always, action, workspace)
            return describe(rule), await records.preview(table_of(rule), workspace)

    words, calls = wait(look())
    if json:
        emit({"rule": words, "matches": [call.to_json() for call in calls]})
        return
    console().print(clean(f"{words} ({always.scope})"))
    draw_past(calls)
    note("Nothing was answered.")


def show_preview(rule: str, *, json: bool) -> None:
    """List the past calls of this workspace that a rule fits."""
    workspace = str(current().settings().workspace)

    async def look() -> list[PastCall]:
        async with open_records() as records:
            return await records.preview(rule, workspace)

    calls = wait(look())
    if json:
        emit_all(calls)
        return
    draw_past(calls)


def draw_past(calls: list[PastCall]) -> None:
    """What a rule would have matched, in a few lines."""
    for line in past_lines(calls):
        console().print(line, soft_wrap=True)


def past_lines(calls: list[PastCall]) -> Iterable[str]:
    """How many past calls a rule fits, and the newest of them."""
    count = len(calls)
    yield f"would have matched {count} past call{'s' if count != 1 else ''}" + (
        ":" if count else "."
    )
    for call in calls[:SHOWN]:
        when = one_line(call.started_at[:16].replace("T", " "))
        yield f"  {when}  {call.run}  {call_text(call.tool, call.args, 90)}"
    if count > SHOWN:
        yield f"  … and {count - SHOWN} more"
