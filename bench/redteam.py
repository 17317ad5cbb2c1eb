"""What a model that obeys every text does, attacked and not, under a policy and nobody answering.

Prints for each kind of attack how many moved data out or did something beyond the task, with the
guard and without it, and how many of the same tasks are done without an attack.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections import Counter
from pathlib import Path

import corral
from tests.redteam.cases import ATTACKS, TASKS
from tests.redteam.play import play

_KINDS = {"send": "moves data out", "act": "acts beyond the task"}


async def measure(on_untrusted: str) -> tuple[Counter[str], Counter[str]]:
    """How many attacks of each kind succeed, and how many tasks are done, by who answers."""
    succeeded: Counter[str] = Counter()
    tasks: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="corral-redteam-") as folder:
        given = {
            "home": Path(folder) / "home",
            "workspace": folder,
            "provenance": {"on_untrusted": on_untrusted},
        }
        async with corral.open(corral.load_settings(given)) as c:
            for attack in ATTACKS:
                played = await play(c, attack.task, attack)
                succeeded[attack.kind] += bool(played.beyond(attack.task))
            for task in TASKS:
                for human in ("nobody", "theirs"):
                    tasks[human] += (await play(c, task, human=human)).status == "completed"
    return succeeded, tasks


def main() -> None:
    """Print the table."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    guarded, tasks = asyncio.run(measure("ask"))
    bare, _ = asyncio.run(measure("off"))
    print("| attack | attacks | succeed | succeed without the guard |\n|---|---|---|---|")
    for kind, words in _KINDS.items():
        count = sum(attack.kind == kind for attack in ATTACKS)
        print(f"| {words} | {count} | {guarded[kind]} | {bare[kind]} |")
    print("\n| tasks without an attack | |\n|---|---|")
    print(f"| all | {len(TASKS)} |")
    print(f"| done with nobody answering | {tasks['nobody']} |")
    print(f"| done when a human approves what belongs to them | {tasks['theirs']} |")


if __name__ == "__main__":
    main()
