"""Decisions per second with many rules, against asking one rule after the other.

Both decide the same calls by the same rules of one layer, whose first match counts, with the
built-in guards and provenance. The baseline, `one by one`, compares every rule with every call:
the rules are compiled, but nothing is known of which rules mean which tools.

    by tool      rules for 100 tools, each with a pattern of paths
    by server    rules for 20 servers, with a tool's pattern and an agent
    any tool     rules for all tools, each with a pattern of paths: nothing to look up by
    commands     rules for one shell, each with a pattern of commands
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from corral.policies import guards
from corral.policies.conditions import names_fit
from corral.policies.facts import ToolCall
from corral.policies.layers import Layered, decide
from corral.policies.provenance import guard as provenance
from corral.policies.rules import Policy, Rule

Decide = Callable[[ToolCall], object]

SEED = 20261122
CALLS = 2_000


@dataclass(frozen=True)
class Mix:
    """A kind of policy: its rules, and calls for it."""

    name: str
    rule: Callable[[random.Random, int], Rule]
    call: Callable[[random.Random], ToolCall]


def a_call(name: str, **args: object) -> ToolCall:
    """A call by an agent in a sandboxed workspace."""
    return ToolCall(
        name, dict(args), read_only=False, sandboxed=True, workspace="/work/space", network=False
    )


def folder(chance: random.Random) -> str:
    """A folder two levels deep."""
    return f"part{chance.randrange(40)}/section{chance.randrange(40)}"


def by_tool(chance: random.Random, number: int) -> Rule:
    """A rule for one of 100 tools."""
    action = chance.choice(("allow", "ask", "deny"))
    tool = f"server{number % 10}__tool{number // 10 % 10}"
    return Rule.model_validate(
        {"tool": tool, "args": {"path": f"{folder(chance)}/**"}, "action": action}
    )


def by_server(chance: random.Random, number: int) -> Rule:
    """A rule for some tools of one of 20 servers."""
    action = chance.choice(("allow", "ask", "deny"))
    server, tool = f"server{number % 20}", f"tool{chance.randrange(10)}*"
    return Rule(server=server, tool=tool, agent=f"agent{number}", action=action)


def any_tool(chance: random.Random, number: int) -> Rule:
    """A rule for every tool."""
    del number
    action = chance.choice(("allow", "ask", "deny"))
    return Rule(paths=(f"{folder(chance)}/**",), action=action)


def for_commands(chance: random.Random, number: int) -> Rule:
    """A rule for some commands."""
    action = chance.choice(("allow", "ask", "deny"))
    pattern = f"program{number} sub{chance.randrange(5)} *"
    return Rule.model_validate(
        {"tool": "shell__run", "args": {"command": pattern}, "action": action}
    )


def write(chance: random.Random) -> ToolCall:
    """A call that writes a file."""
    name = f"server{chance.randrange(20)}__tool{chance.randrange(10)}"
    return a_call(name, path=f"{folder(chance)}/file{chance.randrange(50)}.md", content="x" * 200)


def command(chance: random.Random) -> ToolCall:
    """A call that runs a command."""
    number, sub = chance.randrange(2_000), chance.randrange(5)
    return a_call("shell__run", command=f"program{number} sub{sub} --all 'a file.md'")


MIXES = (
    Mix("by tool", by_tool, write),
    Mix("by server", by_server, write),
    Mix("any tool", any_tool, write),
    Mix("commands", for_commands, command),
)


def one_by_one(policy: Layered) -> Decide:
    """Every rule compared with the call, in its order."""
    rules = policy.indexes[0].rules

    def first(call: ToolCall) -> object:
        guards.guard(call, policy.files)
        found = next(
            (one for one in rules if names_fit(one.rule, call.name) and one.holds(call)), None
        )
        provenance.guard(call)
        return found.decision if found is not None else None

    return first


def per_second(decided: Decide, calls: Sequence[ToolCall]) -> float:
    """Decisions in a second of CPU: the median of five rounds, of which the first warms up."""
    rounds = []
    for _ in range(5):
        started = time.process_time()
        for call in calls:
            decided(call)
        rounds.append(len(calls) / (time.process_time() - started))
    return statistics.median(rounds)


def measure(mix: Mix, count: int, calls: int) -> None:
    """One line of the table."""
    chance = random.Random(SEED)
    rules = tuple(mix.rule(chance, number) for number in range(count))
    policy = Layered.of(Policy("bench", rules))
    made = [mix.call(chance) for _ in range(calls)]
    slow = per_second(one_by_one(policy), made[: max(20, calls // 20)])
    fast = per_second(lambda call: decide(policy, call), made)
    print(f"| {mix.name} | {count:,} | {slow:,.0f} | {fast:,.0f} | {fast / slow:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rules", type=int, nargs="+", default=[10, 1_000])
    parser.add_argument("--calls", type=int, default=CALLS)
    options = parser.parse_args()
    print("| rules | number | one by one, a second | Corral, a second | ratio |")
    print("|---|---:|---:|---:|---:|")
    for mix in MIXES:
        for count in options.rules:
            measure(mix, count, options.calls)


if __name__ == "__main__":
    main()
