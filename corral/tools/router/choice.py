"""Which tools a request is offered: those that are always on, those of before, the best fitting.

What is offered is a list that grows at its end: the beginning of a prompt, in which the
definitions stand, then stays as it was, and a cache of it is hit. Only when the list has grown too
long does it begin anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from corral.policies.patterns.globs import compile_glob
from corral.tools.contract import ToolSpec
from corral.tools.router.finding import FIND
from corral.tools.router.index import MOST, tool_index
from corral.tools.router.settings import ToolsSettings

ALWAYS_ON = frozenset({"agents", "handoff", FIND.server})
"""Servers whose tools are always offered: other agents, and the search for tools."""

ROOM = MOST + 1
"""How many times the usual number for one request a conversation may have been offered."""

USED = 5
"""How many tools that were called last stay when the list begins anew."""


@dataclass(frozen=True)
class Wanted:
    """What tools are wanted for: a request, after what a conversation has had.

    ``offered`` are the tools that it was offered last, and ``called`` those that it has called,
    the newest last. Both by their names.
    """

    request: str
    offered: tuple[str, ...] = ()
    called: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Parted:
    """Tools, those of them that are always on, and those that are chosen from."""

    specs: tuple[ToolSpec, ...]
    always: tuple[str, ...]
    others: tuple[ToolSpec, ...]


class Router:
    """How an agent's tools are chosen."""

    def __init__(self, settings: ToolsSettings) -> None:
        self._settings = settings
        self._parted = _Parted((), (), ())

    def is_needed(self, specs: tuple[ToolSpec, ...]) -> bool:
        """Whether there are more tools than are offered at once."""
        return 0 < self._settings.offered < len(self._part(specs).others)

    def choose(self, specs: tuple[ToolSpec, ...], wanted: Wanted) -> list[str]:
        """The names of the tools to offer, in an order that stays. Takes milliseconds.

        The first call loads the embeddings, so none belongs on an event loop.
        """
        count, always = self._settings.offered, self._part(specs).always
        best = set(self._fitting(specs, wanted.request))
        # In the order of the catalog, so that like requests make the same prompt.
        chosen = [spec.name for spec in specs if spec.name in best]
        known = {spec.name for spec in specs}
        grown = _names((*always, *wanted.offered, *chosen), known)
        if len(grown) <= len(always) + ROOM * count:
            return grown
        used = list(dict.fromkeys(reversed(wanted.called)))[:USED]
        return _names((*always, *sorted(used), *chosen), known)

    def best(self, specs: tuple[ToolSpec, ...], request: str, count: int) -> list[str]:
        """The names of the tools that fit best and are not always on, the best one first."""
        others = self._part(specs).others
        return tool_index(others).ranked(request)[:count] if others else []

    def _fitting(self, specs: tuple[ToolSpec, ...], request: str) -> list[str]:
        others = self._part(specs).others
        return tool_index(others).fitting(request, self._settings.offered) if others else []

    def _part(self, specs: tuple[ToolSpec, ...]) -> _Parted:
        if self._parted.specs != specs:
            always = {spec.name for spec in specs if self._is_always_on(spec)}
            names = tuple(spec.name for spec in specs if spec.name in always)
            others = tuple(spec for spec in specs if spec.name not in always)
            self._parted = _Parted(specs, names, others)
        return self._parted

    def _is_always_on(self, spec: ToolSpec) -> bool:
        return spec.server in ALWAYS_ON or any(
            compile_glob(pattern).matches(spec.name) for pattern in self._settings.always
        )


def _names(names: Iterable[str], known: set[str]) -> list[str]:
    """Those of the names that are known, each once."""
    return [name for name in dict.fromkeys(names) if name in known]
