"""How well loops are found: precision and recall on labelled trajectories, and the time of a step.

Every trajectory is fed to the detectors step by step, as a run would; a call that raises an alarm
is not made, and the model, being a recording, does not listen. In brackets 95 % intervals (Wilson).
"""

from __future__ import annotations

import argparse
import math
import time
from collections import defaultdict
from dataclasses import dataclass

from bench._trajectories import LOOPS, Trajectory, corpus
from corral.policies.loops import Call, History, LoopSettings, Measure, Patience, Verdict

_REPEATS = 3
_Z = 1.96


@dataclass
class Watched:
    """What came of one trajectory: the first verdict, and the strictest measure."""

    verdict: Verdict | None = None
    measure: Measure | None = None


def watch(trajectory: Trajectory) -> Watched:
    """Feed a trajectory to the detectors, until a run would be stopped."""
    settings, history, watched = LoopSettings(), History(), Watched()
    patience = Patience(_REPEATS, settings)
    answered = False
    for number, step in enumerate(trajectory.steps):
        verdict = None
        if "user" in step:
            history.heard(step["user"])
            continue
        if "said" in step or not answered:
            verdict = history.before_answer(patience)
            _note(watched, verdict, history, settings)
            if verdict is not None:
                history.told()
            history.said(step.get("said", ""), goes_on=not step.get("alone"))
        answered = "said" in step
        if "call" in step:
            call = Call(step["call"], step["args"])
            verdict = history.before_call(call, patience)
            _note(watched, verdict, history, settings)
            if verdict is None:
                history.made(call, step["gives"], is_error=step.get("error", False))
            else:
                history.alarmed((number, ""))
        if watched.measure == "stop":
            break
    if history.before_answer(patience) is not None and watched.verdict is None:
        _note(watched, history.before_answer(patience), history, settings)
    return watched


def _note(
    watched: Watched, verdict: Verdict | None, history: History, settings: LoopSettings
) -> None:
    if verdict is not None:
        watched.verdict = watched.verdict or verdict
        watched.measure = settings.measure(history.alarms + 1)


def interval(hits: int, of: int) -> str:
    """A share and its 95 % interval (Wilson 1927)."""
    if not of:
        return "-"
    share, spread = hits / of, _Z * _Z / of
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / of + spread / (4 * of)) / (1 + spread)
    return f"{share:.2f} [{max(0, middle - half):.2f}, {min(1, middle + half):.2f}]"


def report(title: str, trajectories: list[Trajectory]) -> None:
    """Print what was found in some of the corpus."""
    watched = [(one, watch(one)) for one in trajectories]
    kinds: dict[str, list[tuple[Trajectory, Watched]]] = defaultdict(list)
    for one, seen in watched:
        kinds[one.kind].append((one, seen))
    print(f"\n{title:18}{'number':>8}{'alarms':>8}{'asks':>6}{'stops':>7}   found, or left alone")
    for kind, members in kinds.items():
        alarms = sum(seen.verdict is not None for _, seen in members)
        asks = sum(seen.measure in ("ask", "stop") for _, seen in members)
        stops = sum(seen.measure == "stop" for _, seen in members)
        right = alarms if kind in LOOPS else len(members) - alarms
        share = interval(right, len(members))
        print(f"{kind:18}{len(members):>8}{alarms:>8}{asks:>6}{stops:>7}   {share}")
    found = sum(one.is_loop and seen.verdict is not None for one, seen in watched)
    alarms = sum(seen.verdict is not None for _, seen in watched)
    loops = sum(one.is_loop for one, _ in watched)
    print(f"precision {interval(found, alarms)}   recall {interval(found, loops)}")
    for one, seen in watched:
        if one.is_loop != (seen.verdict is not None):
            said = f": {seen.verdict.seen}" if seen.verdict else ""
            print(f"  {'missed' if one.is_loop else 'wrong'}: {one.name}{said}")


def cost(steps: int) -> None:
    """Print what a step takes early and late in a long run."""
    history, patience = History(), Patience(_REPEATS)
    laps = []
    for number in range(steps):
        began = time.process_time()
        call = Call("files__read_file", {"path": f"{number % 5000}.txt"})
        history.before_answer(patience)
        history.said(f"I read file number {number} and think about it.")
        history.before_call(call, patience)
        history.made(call, f"Text of the file {number}: " + "word " * 200)
        laps.append(time.process_time() - began)
    tenth = steps // 10
    early, late = sum(laps[:tenth]) / tenth, sum(laps[-tenth:]) / tenth
    print(f"\na step of {steps}, CPU: {1e6 * early:.0f} us early on, {1e6 * late:.0f} us late")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--only", choices=["seen", "unseen"])
    arguments = parser.parse_args()
    everything = corpus()
    if arguments.only != "unseen":
        report("seen", [one for one in everything if not one.unseen])
    if arguments.only != "seen":
        report("unseen", [one for one in everything if one.unseen])
    cost(arguments.steps)


if __name__ == "__main__":
    main()
