"""How models were used: tokens, money and speed, by model, agent or day.

Of removed runs the sums are kept, not how fast they were answered.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

from sqlalchemy import Connection, select

from corral.policies.prices import nano
from corral.runtime.budgets.spending import Filter, agent_path, agents_of, chosen, lines_besides
from corral.runtime.database import Database
from corral.runtime.tables import effects, runs
from corral.runtime.views import Record

By = Literal["model", "agent", "day"]


@dataclass(frozen=True)
class ModelUsage(Record):
    """How one model (or all of an agent, or of a day) was used.

    ``calls`` counts every try, ``errors`` those that failed, ``cut_off`` those that nobody waited
    for, ``cache_hits`` answers that were not asked for again. ``cached_tokens`` are part of the
    input, ``reasoning_tokens`` of the output. Times are milliseconds, ``None`` where nothing was
    measured; ``tokens_per_second`` counts from an answer's first token on.
    """

    by: str
    key: str
    calls: int
    errors: int
    cut_off: int
    cache_hits: int
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cost_usd: float
    first_token_ms_median: float | None
    first_token_ms_p95: float | None
    tokens_per_second: float | None


async def usage(database: Database, by: By, since: str | None = None) -> list[ModelUsage]:
    """How models were used since a time (ISO 8601), the most tokens first."""

    def work(connection: Connection) -> list[ModelUsage]:
        sums: dict[str, _Sums] = {}
        for key, row in _calls(connection, by, Filter(since)):
            sums.setdefault(key, _Sums()).add(row)
        for line in lines_besides(connection, Filter(since)):
            if line.model:
                sums.setdefault(str(getattr(line, by)), _Sums()).add_besides(line.amounts)
        found = [one.told(by, key) for key, one in sums.items()]
        return sorted(found, key=lambda u: (-u.input_tokens - u.output_tokens, u.key))

    return await database.read(work)


_COLUMNS = (
    *("run_id", "path", "name", "status", "attempts", "started_at"),
    *("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens"),
    *("cost_usd", "first_token_ms", "generation_ms", "answered_by"),
)


def _calls(connection: Connection, by: By, wanted: Filter) -> Iterator[tuple[str, Any]]:
    """The model calls in the journals, each with what it is added up by."""
    agents = agents_of(connection, wanted) if by == "agent" else {}
    query = (
        select(*(effects.c[name] for name in _COLUMNS), runs.c.agent)
        .join(runs, runs.c.id == effects.c.run_id)
        .where(chosen(wanted, effects.c.started_at), effects.c.kind == "model")
    )
    for row in connection.execute(query):
        match by:
            case "model":
                yield row.answered_by or row.name, row
            case "agent":
                yield agent_path(row, agents), row
            case "day":
                yield row.started_at[:10], row


_TOKENS = (
    *("input_tokens", "cached_tokens", "cache_write_tokens"),
    *("output_tokens", "reasoning_tokens"),
)
_COUNTED = (*("calls", "errors", "cut_off", "cache_hits"), *_TOKENS)


@dataclass
class _Sums:
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTED, 0))
    nano_usd: int = 0
    first: list[float] = field(default_factory=list)
    generated: int = 0
    generation_ms: float = 0.0

    def add(self, row: Any) -> None:
        """Count one call of a journal."""
        for name in _TOKENS:
            self.counts[name] += getattr(row, name)
        self.counts["calls"] += row.attempts
        self.counts["errors"] += row.status == "failed"
        self.counts["cut_off"] += row.status == "cancelled"
        self.nano_usd += nano(row.cost_usd)
        if row.first_token_ms is not None:
            self.first.append(row.first_token_ms)
        elif row.status == "finished" and not row.input_tokens + row.output_tokens:
            self.counts["cache_hits"] += 1  # whatever is asked has a first token, or counts some
        if row.generation_ms and row.output_tokens > 1:
            self.generated += row.output_tokens - 1
            self.generation_ms += row.generation_ms

    def add_besides(self, amounts: Any) -> None:
        """Count what no model call of a journal tells."""
        self.counts["calls"] += amounts.model_calls
        self.nano_usd += amounts.nano_usd
        for name in ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens"):
            self.counts[name] += getattr(amounts, name)

    def told(self, by: str, key: str) -> ModelUsage:
        """The sums as a record."""
        rate = self.generated / self.generation_ms * 1000 if self.generation_ms else None
        return ModelUsage(
            by=by,
            key=key,
            **self.counts,
            cost_usd=self.nano_usd / nano(1.0),
            first_token_ms_median=median(self.first) if self.first else None,
            first_token_ms_p95=_p95(self.first),
            tokens_per_second=rate,
        )


def _p95(times: Sequence[float]) -> float | None:
    """The time that 95 % of them do not exceed: one that was measured (nearest rank)."""
    if not times:
        return None
    return sorted(times)[-(-len(times) * 95 // 100) - 1]
