"""The same calls with the same results: one again and again, or several in turn."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass

from corral.policies.loops.bounded import remember
from corral.policies.loops.inputs import Call
from corral.policies.loops.outcomes import Nature, Result
from corral.policies.loops.settings import Patience
from corral.policies.loops.verdict import Verdict, times

LONGEST_CYCLE = 12
"""Calls in the longest round that is recognised at once; a longer one when its calls repeat."""

_CALLS = 1024
"""Calls, and their results, that are remembered: the newest ones."""

_ERRORS = 64


@dataclass(frozen=True)
class _Step:
    """A call that was made, and how it went."""

    key: str
    tool: str
    digest: int
    nature: Nature


@dataclass(frozen=True)
class _Streak:
    """How often in a row a call gave the same result, and since when nothing else was new."""

    step: _Step
    count: int
    progress: int
    waits: int


class Repeats:
    """Calls that are made again and again while nothing else moves.

    Progress is a call with a result that it has not given before; a failure is none that has been
    seen before with other arguments. After progress every call may be made again as often.
    """

    def __init__(self) -> None:
        self.progress = 0
        self._waits = 0
        self._streaks: OrderedDict[str, _Streak] = OrderedDict()
        self._results: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._failures: OrderedDict[tuple[str, str], None] = OrderedDict()

    def made(self, call: Call, key: str, result: Result) -> bool:
        """A call has ended; whether that was progress."""
        waits = call.is_wait
        self._waits += waits
        before = self._streaks.get(key)
        new = self._is_new(call, key, result)
        self.progress += new
        nature: Nature = "pending" if waits or self._has_waited(before) else result.nature
        goes_on = (
            before is not None
            and before.step.digest == result.digest
            and before.progress == self.progress
        )
        count = before.count + 1 if before and goes_on else 1
        step = _Step(key, call.tool, result.digest, nature)
        remember(self._streaks, key, _Streak(step, count, self.progress, self._waits), _CALLS)
        return new

    def verdict(self, key: str, patience: Patience) -> Verdict | None:
        """Whether making this call once more is pointless."""
        streak = self._streaks.get(key)
        if streak is None or streak.progress != self.progress:
            return None
        tool = streak.step.tool
        if streak.count < _accepted(streak.step, patience) or patience.may_poll(tool):
            return None
        return Verdict(
            "repeat",
            f"{tool} was called {times(streak.count)} with the same arguments and the same "
            "result, and nothing else moved on",
        )

    def _is_new(self, call: Call, key: str, result: Result) -> bool:
        seen = (key, result.digest) in self._results
        remember(self._results, (key, result.digest), None, 4 * _CALLS)
        if result.failure:
            failure = (call.tool, result.failure)
            seen = seen or failure in self._failures
            remember(self._failures, failure, None, _ERRORS)
        return not seen

    def _has_waited(self, before: _Streak | None) -> bool:
        return before is not None and before.waits != self._waits


class Cycles:
    """Several calls in turn, with the same results in every round: A B A B A B.

    For each length of a round: how many calls in a row were the one that length before. So a step
    takes the same time however many there were.
    """

    def __init__(self) -> None:
        self._steps: deque[_Step] = deque(maxlen=LONGEST_CYCLE)
        self._matched = [0] * (LONGEST_CYCLE + 1)

    def made(self, call: Call, key: str, result: Result) -> None:
        """A call has ended."""
        nature: Nature = "pending" if call.is_wait else result.nature
        step = _Step(key, call.tool, result.digest, nature)
        for length in range(2, LONGEST_CYCLE + 1):
            again = length <= len(self._steps) and self._steps[-length] == step
            self._matched[length] = self._matched[length] + 1 if again else 0
        self._steps.append(step)

    def verdict(self, key: str, patience: Patience) -> Verdict | None:
        """Whether this call would begin one more round of the same."""
        for length in range(2, len(self._steps) + 1):
            rounds = self._matched[length] // length + 1
            if rounds < patience.repeats or self._steps[-length].key != key:
                continue
            steps = list(self._steps)[-length:]
            # One call with results in turn watches something that changes.
            if len({step.key for step in steps}) > 1 and _is_pointless(steps, rounds, patience):
                names = ", ".join(dict.fromkeys(step.tool for step in steps))
                return Verdict(
                    "cycle",
                    f"the same {length} calls ({names}) were made in turn {times(rounds)}, with "
                    "the same results in every round",
                )
        return None


def _is_pointless(steps: list[_Step], rounds: int, patience: Patience) -> bool:
    if any(patience.may_poll(step.tool) for step in steps):
        return False
    return rounds >= max(_accepted(step, patience) for step in steps)


def _accepted(step: _Step, patience: Patience) -> int:
    """How often a call is accepted that goes on like this."""
    if step.nature == "pending":
        return patience.polls
    return patience.retries if step.nature == "transient" else patience.repeats
