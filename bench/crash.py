"""The crash campaign: real `corral` processes killed at random times, and what came of their runs.

Each trial begins `corral run` with parallel calls of a real tool server (`_ledger.py`), kills it
with SIGKILL after a random time, and goes on with `corral resume` until the run is completed; a
resume and an answer can be killed too. What is killed is the corral process alone (its server then
ends the call that it is in), or all that it has started too, or, as if the power had failed, all in
one moment, in which the database is copied as it is on the disk; the run goes on from the copy.

Who answers for a call in doubt looks into the server's log: a call that is there gets its result
by hand, any other is made again. So at the end the log must hold every call that must not happen
twice exactly once, and the run must be as one that nobody has disturbed.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

from bench._crash_place import (
    PRELOADED,
    End,
    Place,
    descendants,
    freeze,
    processes,
    signal_,
    wait_until_gone,
)
from corral.runtime.views import Approval, RunView

PAUSED = 3
MOST_KILLS = 5
"""Kills of one trial; then it is left in peace."""


@dataclass
class Tally:
    """What happened, in one trial or in all of them."""

    kills: int = 0
    corral_alone: int = 0
    with_its_servers: int = 0
    power_cuts: int = 0
    while_resuming: int = 0
    while_answering: int = 0
    resumes: int = 0
    in_doubt: int = 0
    made_again: int = 0
    given_by_hand: int = 0
    duplicated: int = 0
    lost: int = 0
    other_keys: int = 0
    trials: int = 0
    same_end: int = 0
    replayed: int = 0

    def add(self, other: Tally) -> None:
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))

    @property
    def is_clean(self) -> bool:
        """Whether every trial ended as one that nobody disturbed."""
        wrong = self.duplicated + self.lost + self.other_keys
        return wrong == 0 and self.trials == self.same_end == self.replayed


class Trial:
    """One run that is killed until it has been killed enough."""

    def __init__(self, place: Place, chance: random.Random, lasts: float) -> None:
        self._place = place
        self._chance = chance
        self._lasts = lasts
        self.tally = Tally(trials=1)

    def go(self, calm: End) -> Tally:
        """Kill and resume until the run is completed, and compare with an undisturbed one."""
        self._killed(self._place.begin)
        while True:
            run = self._place.run()
            if run is None:
                self._perhaps_killed(self._place.begin)
            elif run.status == "completed":
                break
            elif run.status == "paused" and (asked := self._questions(run)):
                self._answer(asked[0])
            else:
                self.tally.resumes += 1
                if self._perhaps_killed(("resume", run.run, "--json")):
                    self.tally.while_resuming += 1
        self._judge(run, calm)
        return self.tally

    def _questions(self, run: RunView) -> list[Approval]:
        found: list[Approval] = self._place.ask(lambda records: records.approvals(run=run.run))
        return found

    def _answer(self, approval: Approval) -> None:
        """Say the truth about a call in doubt, as it stands in the server's log."""
        tool, what = approval.tool.partition("__")[2], str(approval.args["what"])
        happened = any((call["tool"], call["what"]) == (tool, what) for call in self._place.calls())
        words = ("give", approval.id, "--result", f"{tool} {what}")
        if self._perhaps_killed(words if happened else ("approve", approval.id), within=0.1):
            self.tally.while_answering += 1
            return
        self.tally.in_doubt += 1
        self.tally.given_by_hand += happened
        self.tally.made_again += not happened

    def _perhaps_killed(self, args: tuple[str, ...], within: float | None = None) -> bool:
        """Run a command, which is killed or not; whether it was."""
        if self.tally.kills < MOST_KILLS and self._chance.random() < 0.6:
            return self._killed(args, within)
        code = self._place.corral(*args)
        if code not in (0, PAUSED):
            raise RuntimeError(f"corral {args[0]} ended with {code}:\n{self._place.said}")
        return False

    def _killed(self, args: tuple[str, ...], within: float | None = None) -> bool:
        """Run a command and kill it at some time; whether it was still there to be killed."""
        process = self._place.start(*args)
        if within is None and self._chance.random() < 0.9:
            self._place.wait_for_words(process)
        process.join(self._chance.uniform(0.0, within or self._lasts))
        how = self._chance.choice(("corral_alone", "with_its_servers", "power_cuts"))
        if process.exitcode is not None:
            return False
        family = [process.pid]
        if how != "corral_alone":
            family = freeze(process.pid)
        try:
            if how == "power_cuts":
                self._copy()
            servers = descendants(process.pid)
        finally:  # whatever is stopped would keep this program from ending
            for pid in family:
                signal_(pid, signal.SIGKILL)
        process.join()
        wait_until_gone(servers)
        if process.exitcode != -signal.SIGKILL:
            return False
        if how == "power_cuts":
            self._restore()
        self.tally.kills += 1
        setattr(self.tally, how, getattr(self.tally, how) + 1)
        return True

    def _copy(self) -> None:
        # Of a power cut whose process had ended just before.
        shutil.rmtree(self._saved, ignore_errors=True)
        if self._place.home.exists():
            shutil.copytree(self._place.home, self._saved)

    def _restore(self) -> None:
        shutil.rmtree(self._place.home, ignore_errors=True)
        if self._saved.exists():
            self._saved.rename(self._place.home)

    @property
    def _saved(self) -> Path:
        saved: Path = self._place.home.with_name("saved")
        return saved

    def _judge(self, run: RunView, calm: End) -> None:
        end, tally = self._place.end(), self.tally
        for call, count in calm.calls.items():
            made = end.calls[call]
            tally.lost += made == 0
            tally.duplicated += max(0, made - count) if call.startswith("pay") else 0
        keys: dict[tuple[str, str], set[str]] = {}
        for line in self._place.calls():
            keys.setdefault((line["tool"], line["what"]), set()).add(line["key"])
        tally.other_keys += sum(len(found) > 1 for found in keys.values())
        tally.same_end += end.story == calm.story
        tally.replayed += self._place.corral("replay", run.run) == 0


@dataclass(frozen=True)
class Campaign:
    """Trials in ``folder`` until ``kills`` have hit; ``seed`` decides when and how they kill.

    ``seconds`` is half of what a call takes.
    """

    folder: Path
    seed: int
    kills: int
    seconds: float = 0.02

    def fight(self, jobs: int, tell: Callable[[Tally], None]) -> Tally:
        """All trials, ``jobs`` at a time. Raises what a trial raises."""
        first = Place(self.folder / "first", self.seconds)
        first.corral("runs")
        calm, lasts = self._undisturbed(first.database)
        total, lock, numbers = Tally(), threading.Lock(), itertools.count(1)

        def work(_job: int) -> None:
            while total.kills < self.kills:
                number = next(numbers)
                chance = random.Random(f"{self.seed}/{number}")
                here = self.folder / str(number)
                # One in six makes its database first, and is killed while it does.
                place = Place(
                    here, self.seconds, first.database if chance.random() > 1 / 6 else None
                )
                tally = Trial(place, chance, lasts).go(calm)
                shutil.rmtree(here)
                with lock:
                    total.add(tally)
                    tell(total)

        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(work, range(jobs)))
        return total

    def _undisturbed(self, empty: Path) -> tuple[End, float]:
        """What comes of a run that nobody kills, and how many seconds it lasts once it began."""
        place = Place(self.folder / "calm", self.seconds, empty)
        process = place.start(*place.begin)
        place.wait_for_words(process)
        began = time.monotonic()
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(place.said)
        return place.end(), time.monotonic() - began


ROWS = {
    "kills": "kills",
    "corral_alone": "  of corral alone",
    "with_its_servers": "  of corral and its servers",
    "power_cuts": "  power cuts (carried on from a copy)",
    "while_resuming": "  while resuming",
    "while_answering": "  while answering",
    "resumes": "resumes",
    "in_doubt": "calls asked as in doubt",
    "made_again": "  made again",
    "given_by_hand": "  result given by hand",
    "trials": "runs",
    "same_end": "  that ended as an undisturbed one",
    "replayed": "  that replay identically",
    "duplicated": "duplicated effects",
    "lost": "lost effects",
    "other_keys": "calls whose idempotency key changed",
}


def main() -> int:
    """Fight the campaign that the command line asks for; 1 when anything was not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=None, help="repeats when and how it kills")
    parser.add_argument("--jobs", type=int, default=2, help="trials at the same time")
    arguments = parser.parse_args()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    sys.stdout.write(f"seed {seed}\n")
    began = time.monotonic()

    def tell(total: Tally) -> None:
        line = f"\r{total.kills} of {arguments.kills} kills, {total.trials} runs"
        sys.stderr.write(f"{line}, {total.duplicated} duplicated, {total.lost} lost ")
        sys.stderr.flush()

    processes.set_forkserver_preload(list(PRELOADED))
    with tempfile.TemporaryDirectory(prefix="corral-crash-") as folder:
        campaign = Campaign(Path(folder), seed, arguments.kills)
        total = campaign.fight(arguments.jobs, tell)
    sys.stderr.write("\n")
    for name, title in ROWS.items():
        sys.stdout.write(f"{title:<40}{getattr(total, name):>6}\n")
    sys.stdout.write(f"{'seconds':<40}{time.monotonic() - began:>6.0f}\n")
    return 0 if total.is_clean else 1


if __name__ == "__main__":
    sys.exit(main())
