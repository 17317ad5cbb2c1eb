"""Edits that undo each other: a file, or a setting, that goes to and fro."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from corral.policies.loops.bounded import remember
from corral.policies.loops.inputs import Call, edited
from corral.policies.loops.outcomes import Result
from corral.policies.loops.settings import Patience
from corral.policies.loops.verdict import Verdict, times

_TARGETS = 128
_EDITS = 16


@dataclass
class _Target:
    """The edits that one target has had: the newest ones, and how often it came back to one."""

    edits: OrderedDict[str, None]
    returns: int = 0


class Edits:
    """Targets that come back to what they were, whatever is called in between.

    Tests that are run between such edits give ever new texts (times, seeds), so this looks at the
    edits alone. An edit that the target has not had before is progress.
    """

    def __init__(self) -> None:
        self._targets: OrderedDict[tuple[str, str], _Target] = OrderedDict()

    def made(self, call: Call, key: str, result: Result) -> None:
        """A call has ended."""
        name = edited(call)
        if name is None or result.failure:
            return
        target = self._targets.get((call.tool, name)) or _Target(OrderedDict())
        remember(self._targets, (call.tool, name), target, _TARGETS)
        if key not in target.edits:
            target.returns = 0
        elif _is_return(target, key):
            target.returns += 1
        remember(target.edits, key, None, _EDITS)

    def verdict(self, call: Call, key: str, patience: Patience) -> Verdict | None:
        """Whether this call would set its target to and fro once more."""
        name = edited(call)
        target = self._targets.get((call.tool, name or ""))
        if target is None or key not in target.edits or not _is_return(target, key):
            return None
        if target.returns < patience.repeats or patience.may_poll(call.tool):
            return None
        return Verdict(
            "oscillation",
            f"{call.tool} has set {name} back {times(target.returns)} to what it had been set to "
            "before, with edits that undo each other",
        )


def _is_return(target: _Target, key: str) -> bool:
    """Whether the edit is an earlier one, made again after another."""
    return key in target.edits and next(reversed(target.edits)) != key
