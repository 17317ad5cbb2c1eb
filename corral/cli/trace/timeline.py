"""When each effect of a run ran, as bars on one axis."""

from __future__ import annotations

from bisect import bisect_right

from corral.runtime.outline import Graph

_EIGHTHS = " ▏▎▍▌▋▊▉█"


class Timeline:
    """The time in which a run worked, on ``width`` columns.

    Time in which it only waited for a human, or was not running, has no width: a pause of a night
    would leave nothing else to see.
    """

    def __init__(self, graph: Graph, width: int) -> None:
        self._width = width
        spans = sorted(
            (node.begin, node.end)
            for node in graph.walk()
            if node.inside is None and node.effect is not None and node.effect.kind != "approval"
        )
        self._begins: list[float] = []
        self._ends: list[float] = []
        self._before: list[float] = []
        worked = 0.0
        for begin, end in spans:
            if self._ends and begin <= self._ends[-1]:
                worked += max(0.0, end - self._ends[-1])
                self._ends[-1] = max(self._ends[-1], end)
                continue
            self._begins.append(begin)
            self._ends.append(end)
            self._before.append(worked)
            worked += end - begin
        self._worked = worked

    def bar(self, begin: float, end: float, fill: str = "█") -> str:
        """The bar of what ran between two times (milliseconds since 1970), at least a mark wide."""
        first, last = self._column(begin), self._column(end)
        start = min(int(first), self._width - 1)
        if int(last) <= start:
            return f"{' ' * start}▏".ljust(self._width)
        whole = int(last) - start
        rest = _EIGHTHS[int((last - int(last)) * 8)].strip() if fill == "█" else ""
        return f"{' ' * start}{fill * whole}{rest}"[: self._width].ljust(self._width)

    def _column(self, time: float) -> float:
        at = bisect_right(self._begins, time) - 1
        if at < 0 or not self._worked:
            return 0.0
        worked = self._before[at] + min(time, self._ends[at]) - self._begins[at]
        return worked / self._worked * self._width
