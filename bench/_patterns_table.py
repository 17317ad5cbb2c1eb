"""What was measured of a pattern, beside what theory says: two tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from bench._intervals import newcombe, wilson
from corral.jsontypes import JsonObject

Interval = tuple[float, float]

_ROWS = (
    f"{'':28}{'right':>7}  {'95 % interval':14}  theory  {'tokens':>7}   "
    f"react: {'majority':>8}  {'95 % interval':14}  theory  one right"
)
_GAINS = (
    f"{'better than react':28}{'once':>7}  {'95 % interval':16}  theory   "
    f"{'for the same tokens':25}  theory"
)


@dataclass(frozen=True)
class Side:
    """A pattern with its options, and what theory says of it, if it says anything."""

    name: str
    pattern: str
    options: JsonObject = field(default_factory=dict)
    theory: float | None = None


@dataclass(frozen=True)
class Row:
    """How often a side was right, and the tokens that it used for a task."""

    side: Side
    hits: int
    of: int
    tokens: float

    @property
    def right(self) -> float:
        """The share of tasks that it did."""
        return self.hits / self.of

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the share."""
        return wilson(self.hits, self.of)

    @property
    def is_as_predicted(self) -> bool:
        """Whether what theory says lies in the interval."""
        return _is_in(self.side.theory, self.interval)


@dataclass(frozen=True)
class Bought:
    """A row, and the majority of as many answers of react as its tokens pay for.

    ``one_right``: how likely one of those answers is right, which a verifier would find.
    """

    row: Row
    majority: Row
    one_right: float


@dataclass(frozen=True)
class Gain:
    """By how much a row is better than another."""

    row: Row
    over: Row

    @property
    def share(self) -> float:
        """The difference of the shares."""
        return self.row.right - self.over.right

    @property
    def interval(self) -> Interval:
        """The 95 % interval of the difference."""
        return newcombe((self.row.hits, self.row.of), (self.over.hits, self.over.of))

    @property
    def theory(self) -> float | None:
        """The difference that theory says, if it says anything of both."""
        one, other = self.row.side.theory, self.over.side.theory
        return None if one is None or other is None else one - other


def table(rows: Sequence[Bought]) -> Iterator[str]:
    """How often each was right, and what react would have been for the same tokens."""
    yield _ROWS
    for bought in rows:
        row, other = bought.row, bought.majority
        own = f"{row.side.name:28}{_share(row)}{row.tokens:9,.0f}"
        yield f"{own}   {other.side.name:>5}{_share(other)}{bought.one_right:11.3f}"


def gains(rows: Sequence[Bought]) -> Iterator[str]:
    """By how much each is better than one answer of react, and than react for the same tokens."""
    yield _GAINS
    first = rows[0].row
    for bought in rows[1:]:
        once, same = Gain(bought.row, first), Gain(bought.row, bought.majority)
        yield f"{bought.row.side.name:28}{_gain(once)}   {_gain(same)}"


def missed(rows: Sequence[Bought]) -> tuple[list[str], int]:
    """The names of the rows of which theory lies outside of the interval, and how many there are.

    Of twenty intervals of 95 % one is expected to miss.
    """
    known = [bought.row for bought in rows if bought.row.side.theory is not None]
    return [row.side.name for row in known if not row.is_as_predicted], len(known)


def _is_in(theory: float | None, interval: Interval) -> bool:
    low, high = interval
    return theory is None or low <= theory <= high


def _share(row: Row) -> str:
    low, high = row.interval
    return f"{row.right:7.3f}  [{low:.3f}, {high:.3f}]  {_said(row.side.theory, row.interval)}"


def _gain(gain: Gain) -> str:
    low, high = gain.interval
    return f"{gain.share:+7.3f}  [{low:+.3f}, {high:+.3f}]  {_said(gain.theory, gain.interval)}"


def _said(theory: float | None, interval: Interval) -> str:
    mark = " " if _is_in(theory, interval) else "!"
    return "    - " if theory is None else f"{theory:.3f}{mark}"
