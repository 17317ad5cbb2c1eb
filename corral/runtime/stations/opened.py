"""The stations of one execution of a run, opened together over its journal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakMethod

from corral.policies.limits import RunLimits
from corral.runtime.budgets.shared import SharedAccounts
from corral.runtime.database import Database
from corral.runtime.events import Event
from corral.runtime.journal import Journal
from corral.runtime.prompts import beginning
from corral.runtime.stations.accounts import Accounts, BudgetTerms
from corral.runtime.stations.at_limit import AtLimit
from corral.runtime.stations.budget import Meter
from corral.runtime.stations.facts import PolicyRules, Surroundings
from corral.runtime.stations.gate import Gate
from corral.runtime.stations.loop_guard import AgentTerms, Watch
from corral.runtime.stations.provenance import Tracker
from corral.runtime.stations.questions import Asking, Questions
from corral.runtime.stations.response_cache import CacheTerms, ResponseCache
from corral.runtime.stations.shield import Shield, ShieldTerms


@dataclass(frozen=True)
class Stations:
    """What decides about the effects of a run."""

    watch: Watch
    meter: Meter
    gate: Gate
    tracker: Tracker
    shield: Shield
    cache: ResponseCache


@dataclass(frozen=True)
class StationTerms:
    """On what terms the stations decide."""

    limits: RunLimits
    rules: PolicyRules
    asking: Asking
    budgets: BudgetTerms
    agents: AgentTerms
    shield: ShieldTerms
    cache: CacheTerms


async def open_stations(
    journal: Journal, database: Database, terms: StationTerms, emit: Callable[[Event], None]
) -> Stations:
    """The stations, with what they know of the run's past."""
    questions = Questions(journal, database, terms.asking, emit)
    await questions.load()
    thread = terms.asking.thread
    meter = Meter(
        journal,
        Accounts(journal, thread, terms.budgets, terms.limits),
        SharedAccounts(database, journal.run, thread),
        AtLimit(journal, database, questions),
        emit,
    )
    await meter.load()
    questions.tell_budgets(WeakMethod(meter.used))
    begun = await database.glance(lambda connection: beginning(connection, journal.run))
    tracker = Tracker(journal, terms.rules, begun.label)
    shield = Shield(terms.shield)
    surroundings = Surroundings(
        terms.rules, journal, tracker, terms.asking.agent, begun.said, shield.holds_secret
    )
    return Stations(
        watch=Watch(journal, questions, terms.agents),
        meter=meter,
        gate=Gate(questions, surroundings),
        tracker=tracker,
        shield=shield,
        cache=ResponseCache(database, tracker, terms.cache),
    )
