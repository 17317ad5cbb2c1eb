"""What happens at the limit of a budget: a human is asked to raise it, or there is an end.

A limit that was raised stays raised for its account, in every run that it holds for, as long as
the question is kept in which that was answered.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, or_, select

from corral.errors import BudgetReached
from corral.jsontypes import JsonObject
from corral.policies.budgets import LIMIT_OF, Amount, in_words, readable, shown
from corral.policies.ledger import Breach
from corral.policies.prices import NANO, nano
from corral.runtime.approvals.answers import close_questions
from corral.runtime.database import Database
from corral.runtime.entries import Entry
from corral.runtime.journal import Journal
from corral.runtime.paths import asked_about
from corral.runtime.statements import Query
from corral.runtime.stations.questions import Question, Questions
from corral.runtime.tables import approvals

_NEWEST, _LENGTH = 5, 300
"""How many results an early end shows, and how many characters of each."""


@dataclass(frozen=True)
class _Asked:
    """A question about a limit: where it was asked, and what it would raise."""

    path: str
    args: JsonObject


class AtLimit:
    """The limits of one run's accounts that were reached: asked about, raised or final."""

    def __init__(self, journal: Journal, database: Database, questions: Questions) -> None:
        self._journal = journal
        self._database = database
        self._questions = questions
        self._asked: dict[tuple[str, str, Amount], _Asked] = {}
        self._open: dict[str, str] = {}
        self._asking = asyncio.Lock()
        self._last_words: dict[str, str] = {}
        self.raised: dict[str, dict[str, Amount]] = {}

    async def load(self) -> None:
        """Read which limits humans have raised, and what they were asked in this run."""
        run = {"run": self._journal.run}
        for row in await self._database.glance(lambda connection: _RAISED.all(connection, run)):
            asked = json.loads(row.args)
            if row.run_id == self._journal.run and row.answered_by != "corral":
                self._asked[_key(asked)] = _Asked(row.path, asked)
                if row.status == "pending":
                    self._open[asked_about(row.path)] = row.path
            if row.status == "approved":
                self._raise(json.loads(row.answer_args) if row.answer_args else asked)

    async def reached(self, breach: Breach, path: str) -> None:
        """A call does not fit: return when the limit was raised since, or end.

        Interrupts the graph to ask a human. Raises ``BudgetReached``.
        """
        if breach.account.budget.at_limit == "answer":
            raise self._end(breach, f"{_sentence(breach)}.")
        key = (breach.account.key, breach.measure, breach.limit)
        if key not in self._asked:
            self._asked[key] = _Asked(self._place(path), _args(breach))
        asked = self._asked[key]
        async with self._asking:  # branches that reach a limit together ask one question
            answer = await self._questions.answer(asked.path, lambda: _question(breach, asked.args))
        if answer.status == "denied":
            words = f"{_sentence(breach)}, and it was not raised: {answer.reason}"
            raise self._end(breach, words)
        self._raise(answer.args or asked.args)

    async def passed(self, path: str) -> None:
        """A call fits: what was asked about it, nobody needs an answer to any more."""
        question = self._open.pop(path, None)
        if question is None:
            return
        self._asked = {key: one for key, one in self._asked.items() if one.path != question}
        mine = (approvals.c.run_id == self._journal.run) & (approvals.c.path == question)
        await self._database.write(lambda c: close_questions(c, mine, "the call fits by now"))

    def _place(self, path: str) -> str:
        number = 1
        while self._questions.was_asked(f"{path}/budget/{number}"):
            number += 1
        return f"{path}/budget/{number}"

    def _raise(self, args: JsonObject) -> None:
        key, measure, _ = _key(args)
        raised = self.raised.setdefault(key, {})
        raised[measure] = max(raised.get(measure, 0), _stored(measure, args["raise_to"]))

    def _end(self, breach: Breach, words: str) -> BudgetReached:
        """The end of the run, or of the agent's task.

        Of parallel calls that come to it all give the same answer: which of them ends the graph is
        chance, and a replay must not show it.
        """
        account = breach.account
        scope = account.holder.partition(":")[2] if account.kind == "agent" else ""
        if scope not in self._last_words:
            self._last_words[scope] = so_far(self._journal.entries(), scope, words)
        return BudgetReached(
            words,
            hint="Give it a higher budget and resume the run.",
            scope=scope,
            answer=self._last_words[scope],
        )


def _key(args: JsonObject) -> tuple[str, str, Amount]:
    measure = str(args["measure"])
    return f"{args['account']}:{args['holder']}", measure, _stored(measure, args["limit"])


def _stored(measure: str, amount: Amount) -> Amount:
    """An amount as ``Budget.limits`` has it, from one that a person reads."""
    return nano(amount) if measure == "usd" else amount


def _args(breach: Breach) -> JsonObject:
    measure = breach.measure
    return {
        "account": breach.account.kind,
        "holder": breach.account.holder,
        "measure": measure,
        "limit": readable(measure, breach.limit),
        "used": readable(measure, breach.used),
        "raise_to": _suggestion(breach),
    }


def _suggestion(breach: Breach) -> Amount:
    """Twice the limit, or as much as lets the call through with something left to go on."""
    enough = max(2 * breach.limit, breach.used + 2 * breach.needed)
    if breach.measure == "usd":
        return max(0.01, math.ceil(enough / NANO * 100) / 100)
    return max(1, math.ceil(enough))


def _question(breach: Breach, args: JsonObject) -> Question:
    fixed = {name: {"const": value} for name, value in args.items() if name != "raise_to"}
    is_whole = isinstance(breach.limit, int) and breach.measure != "usd"
    limit = {"type": "integer" if is_whole else "number", "exclusiveMinimum": args["limit"]}
    to = shown(breach.measure, _stored(breach.measure, args["raise_to"]))
    return Question(
        kind="budget",
        tool="budget",
        args=args,
        input_schema={
            "type": "object",
            "properties": {**fixed, "raise_to": limit},
            "required": list(args),
            "additionalProperties": False,
        },
        reason=f"{_sentence(breach)}. Approve to raise it to {to} (or to another raise_to), or "
        "deny to end with what there is.",
    )


def _sentence(breach: Breach) -> str:
    """How far a limit is used, in words."""
    limit, used = shown(breach.measure, breach.limit), shown(breach.measure, breach.used)
    words = (
        f"{LIMIT_OF} {breach.account.words} is reached: {used} of {limit} "
        f"({in_words(breach.measure)}) are used"
    )
    if breach.used > breach.limit:
        return f"{words}, so the limit is below what was spent already"
    if breach.used + breach.needed > breach.limit and breach.used < breach.limit:
        return f"{words}, and the next call needs {shown(breach.measure, breach.needed)}"
    return words


def so_far(entries: Sequence[Entry], scope: str, why: str) -> str:
    """What an agent has said, done and found until its end, in a few lines.

    ``scope`` is the path of its graph, with ``/``; what is deeper inside of it is left out.
    """
    mine = [
        entry
        for entry in entries
        if entry.path.startswith(scope)
        and "/" not in entry.path.removeprefix(scope)
        and entry.status == "finished"
    ]
    said = [str(entry.result["text"]) for entry in mine if entry.kind == "model" and entry.result]
    newest = next((text for text in reversed(said) if text.strip()), "")
    calls = [entry for entry in mine if entry.kind in ("tool", "agent")]
    lines = [newest] if newest else []
    lines.append(f"[Ended early. {why}]")
    if calls:
        lines.append(f"Done so far: {_counted(calls)}. The newest results:")
        lines += [f"- {entry.name}: {_excerpt(entry)}" for entry in calls[-_NEWEST:]]
    return "\n".join(lines)


def _counted(calls: Iterable[Entry]) -> str:
    times: dict[str, int] = {}
    for entry in calls:
        times[entry.name] = times.get(entry.name, 0) + 1
    return ", ".join(f"{name} ({count})" for name, count in times.items())


def _excerpt(entry: Entry) -> str:
    result: dict[str, Any] = entry.result or {}
    text = " ".join(str(result.get("text", "")).split())
    return text if len(text) <= _LENGTH else f"{text[:_LENGTH]}…"


_RAISED = Query(
    select(approvals)
    .where(
        approvals.c.kind == "budget",
        or_(approvals.c.run_id == bindparam("run"), approvals.c.status == "approved"),
    )
    .order_by(approvals.c.created_at)
)
