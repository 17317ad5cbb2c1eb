"""The stations of one execution of a run, opened together over its journal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from corral.policies.limits import RunLimits
from corral.runtime.database import Database
from corral.runtime.events import Event
from corral.runtime.journal import Journal
from corral.runtime.stations.budget import Meter
from corral.runtime.stations.facts import PolicyRules
from corral.runtime.stations.gate import Gate
from corral.runtime.stations.loop_guard import Watch
from corral.runtime.stations.questions import Questions


@dataclass(frozen=True)
class Stations:
    """What decides about the effects of a run."""

    watch: Watch
    meter: Meter
    gate: Gate


@dataclass(frozen=True)
class StationTerms:
    """On what terms the stations decide."""

    limits: RunLimits
    rules: PolicyRules


async def open_stations(
    journal: Journal, database: Database, terms: StationTerms, emit: Callable[[Event], None]
) -> Stations:
    """The stations, with what they know of the run's past."""
    questions = Questions(journal, database, terms.rules.thread, emit)
    await questions.load()
    return Stations(
        watch=Watch(journal, terms.limits),
        meter=Meter(journal, terms.limits),
        gate=Gate(questions, terms.rules),
    )
