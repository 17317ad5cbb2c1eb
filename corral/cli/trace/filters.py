"""Which effects of a trace are shown: by kind, by tool, by how they went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import get_args

from corral.cli.output import clean
from corral.cli.trace.words import ERROR, REFUSED, how_it_went
from corral.errors import UsageError
from corral.runtime.views import EffectView

STATUSES = ("finished", "failed", ERROR, "cancelled", "started", "waiting", REFUSED)
"""What ``--status`` knows. ``failed`` also matches a result that is an error (``error``)."""

_ABOUT_A_TOOL = ("tool", "approval")


@dataclass(frozen=True)
class Filter:
    """An effect is shown when it fits each of the three that is given; any of its values will do.

    ``tools`` are patterns such as ``files__*``. They match tool calls, and questions about them.
    """

    kinds: tuple[str, ...] = ()
    tools: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.kinds or self.tools or self.statuses)

    def shows(self, effect: EffectView) -> bool:
        """Whether the effect fits."""
        return (
            (not self.kinds or effect.kind in self.kinds)
            and (not self.tools or self._by_tool(effect))
            and (not self.statuses or self._by_status(effect))
        )

    def _by_tool(self, effect: EffectView) -> bool:
        return effect.kind in _ABOUT_A_TOOL and any(
            fnmatchcase(effect.name, pattern) for pattern in self.tools
        )

    def _by_status(self, effect: EffectView) -> bool:
        word = how_it_went(effect)
        if word == REFUSED:
            return REFUSED in self.statuses
        return effect.status in self.statuses or (
            word == ERROR and bool({ERROR, "failed"} & set(self.statuses))
        )


EVERYTHING = Filter()
"""Shows all effects."""


def make_filter(kinds: Sequence[str], tools: Sequence[str], statuses: Sequence[str]) -> Filter:
    """The filter of a command line. Raises ``UsageError`` for a value that can never match."""
    from corral.runtime.effects import EffectKind

    known = get_args(EffectKind)
    for given, good, flag in ((kinds, known, "--kind"), (statuses, STATUSES, "--status")):
        for value in given:
            if value not in good:
                raise UsageError(
                    f"There is no {flag.lstrip('-')} {clean(value)!r}.",
                    hint=f"{flag} takes one of: {', '.join(good)}.",
                )
    if "" in tools:
        raise UsageError("The pattern for --tool is empty.", hint="For example: --tool 'files__*'.")
    if tools and kinds and not set(kinds) & set(_ABOUT_A_TOOL):
        raise UsageError(
            f"--tool with --kind {' --kind '.join(kinds)} can match nothing.",
            hint="--tool selects tool calls and the questions about them (--kind tool, approval).",
        )
    return Filter(tuple(kinds), tuple(tools), tuple(statuses))


def nothing_matches(effects: Iterable[EffectView]) -> str:
    """What is there instead, in words, when a filter leaves nothing."""
    effects = list(effects)
    if not effects:
        return "The journal is empty: no effect has been asked for yet."
    tools = Counter(clean(e.name) for e in effects if e.kind == "tool")
    counts: list[tuple[str, Counter[str]]] = [
        ("kinds", Counter(clean(effect.kind) for effect in effects)),
        ("statuses", Counter(_status(effect) for effect in effects)),
        ("tools", tools),
    ]
    there = [f"  {what}: {_counts(found)}" for what, found in counts if found]
    return "\n".join(["No effect matches. There are:", *there])


def _status(effect: EffectView) -> str:
    word = how_it_went(effect)
    return word if word in (ERROR, REFUSED) else clean(effect.status)


def _counts(found: Counter[str]) -> str:
    most = found.most_common(12)
    more = [f"{len(found) - len(most)} more"] if len(found) > len(most) else []
    return ", ".join([f"{value} ({count})" for value, count in most] + more)
