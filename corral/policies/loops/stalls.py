"""Progress that stalls: ever new calls that bring nothing, or fail in the same way."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from corral.jsontypes import JsonObject
from corral.policies.loops.bounded import remember
from corral.policies.loops.inputs import (
    Call,
    Known,
    is_further_on,
    is_same_in_other_words,
)
from corral.policies.loops.outcomes import Result
from corral.policies.loops.settings import Patience
from corral.policies.loops.verdict import Verdict, times

_TOOLS = 64
_CALLS = 256

_ACKNOWLEDGED = 40
"""Characters of a result that only says that something was done, whatever that was."""


@dataclass
class _Run:
    """Calls of one tool in a row that brought the same nothing.

    ``guessed`` counts those whose arguments come from nowhere, ``paged`` those that are the next
    of a series.
    """

    what: str = ""
    guessed: int = 0
    paged: int = 0
    args: JsonObject = field(default_factory=dict)
    digest: int = 0
    waits: int = 0


@dataclass
class _Again:
    """How often in a row one call failed in the same way, whatever was done in between."""

    digest: int
    count: int = 0
    waits: int = 0


class Stalls:
    """Calls that differ and lead nowhere.

    Whoever works through a list that was given, or pages on, may find nothing for long.
    """

    def __init__(self) -> None:
        self.known = Known()
        self._runs: OrderedDict[str, _Run] = OrderedDict()
        self._again: OrderedDict[str, _Again] = OrderedDict()
        self._waits = 0
        self._tool = ""
        self._key = ""

    def made(self, call: Call, key: str, result: Result, text: str) -> bool:
        """A call has ended; whether it brought something."""
        self._tool, self._key = call.tool, key
        self._waits += call.is_wait
        run = self._runs.get(call.tool) or _Run()
        remember(self._runs, call.tool, run, _TOOLS)
        what = _nothing(call, result, run)
        self._count(run, call, result, what)
        run.what, run.args = what, call.args
        run.digest, run.waits = result.digest, self._waits
        self._count_failure(key, result)
        if not result.failure:  # which mostly repeats what was asked for
            self.known.learn(text)
        return not what

    def _count(self, run: _Run, call: Call, result: Result, what: str) -> None:
        """Count a call that brought nothing; one that is only made again is not a new one."""
        if call.args == run.args and run.digest == result.digest:
            return
        if not what or call.args == run.args:
            run.guessed = run.paged = 0
        elif what != run.what:
            run.guessed, run.paged = 1, 0
        elif is_further_on(run.args, call.args, by_number=_is_series(call, result)):
            run.paged += 1
        elif run.waits == self._waits and not self.known.names(run.args, call.args):
            run.guessed += 1

    def restart(self) -> None:
        """The model was told, or a human let it go on: it may go on for as long again."""
        self._runs.clear()
        self._again.clear()

    def verdict(self, patience: Patience) -> Verdict | None:
        """What the newest call says about how things go."""
        run, again = self._runs.get(self._tool), self._again.get(self._key)
        if patience.may_poll(self._tool):
            return None
        if again and again.count > patience.stall:
            return Verdict(
                "stall",
                f"{self._tool} was called {times(again.count)} with the same arguments and failed "
                "in the same way each time, whatever was done in between",
            )
        if run and run.what and (run.guessed >= patience.stall or run.paged >= patience.pages):
            count = run.guessed + run.paged
            return Verdict("stall", f"{count} calls of {self._tool} in a row {run.what}")
        return None

    def _count_failure(self, key: str, result: Result) -> None:
        again = self._again.get(key) or _Again(result.digest)
        remember(self._again, key, again, _CALLS)
        if not result.failure or again.digest != result.digest or again.waits != self._waits:
            again.count = 0
        again.count += bool(result.failure)
        again.digest, again.waits = result.digest, self._waits


def _is_series(call: Call, result: Result) -> bool:
    """Whether numbers in the arguments may count along; in code that fails they do not."""
    return not result.failure or not any(
        " " in text for text in call.args.values() if isinstance(text, str)
    )


def _nothing(call: Call, result: Result, run: _Run) -> str:
    """How a call brought nothing, in words that go on from "8 calls in a row"; or nothing."""
    if result.failure:
        return f"failed in the same way ({result.failure[:80]})"
    if result.nature == "empty":
        return "found nothing"
    same = result.nature == "fine" and result.size >= _ACKNOWLEDGED and result.digest == run.digest
    if same and is_same_in_other_words(run.args, call.args):
        return "asked the same in other words and had the same result"
    return ""
