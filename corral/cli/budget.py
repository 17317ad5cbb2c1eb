"""Who spent what: ``budget``, and how limits are written on the command line.

No graph and no model is imported.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corral.cli.context import current, open_records, wait
from corral.cli.output import clean, console, emit, note
from corral.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from corral.policies.budgets import Budget
    from corral.runtime.budgets.spending import By, Filter, Spent, Used

BudgetOption = Annotated[
    list[str] | None,
    typer.Option(metavar="WHAT=LIMIT", help="A limit: usd=0.5, tokens=20000, tools.web__*=3."),
]
TagOption = Annotated[
    list[str] | None, typer.Option(metavar="TAG", help="What `corral budget` can add it up by.")
]
ByOption = Annotated[
    Literal["agent", "model", "tool", "thread", "day", "tag"] | None,
    typer.Option(help="Add it up by this."),
]


def parse_budget(texts: Sequence[str] | None) -> Budget | None:
    """The budget that options of the form ``MEASURE=LIMIT`` name. Raises ``UsageError``."""
    if not texts:
        return None
    from pydantic import ValidationError

    from corral.policies.budgets import Budget

    data: dict[str, object] = {}
    tools: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--budget {text}: a limit is missing.", hint=_EXAMPLE)
        if name.startswith("tools."):
            tools[name.removeprefix("tools.")] = value
        elif name in Budget.model_fields and name != "tools":
            data[name] = value
        else:
            raise _unknown(text, name, list(Budget.model_fields))
    try:
        return Budget.model_validate({**data, **({"tools": tools} if tools else {})})
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(map(str, problem["loc"]))
        said = problem["msg"].removeprefix("Value error, ")
        raise UsageError(f"--budget {where}: {said}.", hint=_EXAMPLE) from error


_EXAMPLE = "Write it as --budget usd=0.5 or --budget tokens=20000; see docs/budgets.md."


def _unknown(text: str, name: str, known: list[str]) -> UsageError:
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]}? {_EXAMPLE}" if close else _EXAMPLE
    return UsageError(f"--budget {text}: nothing is measured as {name!r}.", hint=hint)


def budget(
    by: ByOption = None,
    since: Annotated[
        str | None, typer.Option(metavar="WHEN", help="From this date on, or an age: 7d, 12h.")
    ] = None,
    run: Annotated[str | None, typer.Option(metavar="RUN", help="Only this run.")] = None,
    thread: Annotated[str | None, typer.Option(metavar="T", help="Only this thread.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show who spent what, and how far the configured budgets are used."""
    found = wait(_found(by, since, run, thread))
    if json:
        for record in (*found.spent, *found.used):
            emit(record.to_json())
        return
    if not found.spent:
        note("Nothing was spent yet.")
    for lines in found.tables():
        console().print(_table(lines))
    for line in found.used:
        console().print(_in_words(line))


@dataclass(frozen=True)
class _Found:
    spent: list[Spent]
    used: list[Used]

    def tables(self) -> list[list[Spent]]:
        """The lines by what they were added up by."""
        kinds = dict.fromkeys(line.by for line in self.spent)
        return [[line for line in self.spent if line.by == kind] for kind in kinds]


async def _found(by: By | None, since: str | None, run: str | None, thread: str | None) -> _Found:
    from corral.runtime.approvals.answers import find_run, find_thread
    from corral.runtime.budgets.spending import Filter, budgets_used, spending

    begin = None if since is None else parse_since(since)
    settings = current().settings()
    async with open_records() as records:
        database = records.database
        one = run if run is None else await database.read(lambda c: find_run(c, run))
        in_thread = thread
        if thread is not None:
            in_thread = await database.read(lambda c: find_thread(c, thread))
        wanted = Filter(begin, one, in_thread)
        spent: list[Spent] = []
        for kind in (by,) if by else _summary(wanted):
            spent += await spending(database, kind, wanted)
        return _Found(spent, await budgets_used(database, settings.budgets, in_thread))


def _summary(wanted: Filter) -> tuple[By | None, ...]:
    """What is shown when nobody says by what to add up."""
    return (None, "agent", "model", "tool") if wanted.run else (None, "agent", "model")


def parse_since(text: str) -> str:
    """A date, a time or an age as ISO 8601 in UTC. Raises ``UsageError``."""
    from corral.runtime.clock import ago
    from corral.runtime.housekeeping.retention import parse_age

    if re.fullmatch(r"\d+\s*[hdwHDW]", text):
        return ago(parse_age(text))
    try:
        datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"--since {text}: this is neither a date nor an age.",
            hint="Write it as --since 2026-11-01 or --since 7d.",
        ) from error
    return text


def _table(lines: list[Spent]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(lines[0].by)
    for name in ("cost", "input", "output", "model calls", "tool calls", "steps", "active"):
        table.add_column(name, justify="right")
    for line in lines:
        table.add_row(
            clean(line.key),
            f"${line.cost_usd:.4f}",
            f"{line.input_tokens:,}",
            f"{line.output_tokens:,}",
            f"{line.model_calls:,}",
            f"{line.tool_calls:,}",
            f"{line.steps:,}",
            f"{line.active_seconds:,.1f} s",
        )
    return table


def _in_words(line: Used) -> str:
    share = f"{line.used / line.limit:.0%}" if line.limit else "all"
    amounts = f"{line.used:,.6g} of {line.limit:,.6g} {line.measure}"
    name = {"user": "the user's budget", "day": f"the budget of {line.holder}"}
    return f"{name.get(line.account, 'the budget of the thread')}: {amounts} ({share})"
