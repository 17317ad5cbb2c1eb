"""How often the right tool is among those that an agent with 500 tools is offered, and how fast.

The requests are labelled (``bench/_requests.py``): those that all was tuned on, and two sets that
were held out. ``offered`` is what an agent gets, with how many tools and how many tokens of
definitions that are on the average; the numbers are the recall at so many tools, always.

    keywords     BM25 over the words of the definitions, the request widened (`wording.py`)
    embeddings   static token embeddings
    fused        both: what agents get
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from bench._intervals import wilson
from bench._requests import GROUPS, Group, Request, catalog, requests
from corral.runtime.tool_tokens import definition_tokens
from corral.tools.router.choice import Router, Wanted
from corral.tools.router.index import Ranking, tool_index
from corral.tools.router.settings import ToolsSettings

RANKINGS: tuple[Ranking, ...] = ("keywords", "embeddings", "fused")
CUTS = (5, 10, 15, 20, 30)
SETS: Mapping[str, tuple[Group, ...]] = {
    **{group: (group,) for group in GROUPS},
    "all held_out": ("held_out_plain", "held_out_hints"),
    "all fresh": ("fresh_plain", "fresh_hints"),
}

ROUTER = Router(ToolsSettings(always=()))


@dataclass(frozen=True)
class Offer:
    """What a request was offered: whether the right tool was there, and what it took."""

    hit: bool
    tools: int
    tokens: int
    seconds: float


def places(ranking: Ranking, asked: Sequence[Request]) -> list[int]:
    """Where the first right tool stands for each request; 0 is the best place."""
    index = tool_index(catalog())
    ranked = [index.ranked(request.text, ranking) for request in asked]
    return [
        min(map(names.index, request.tools)) for request, names in zip(asked, ranked, strict=True)
    ]


def recall(found: Sequence[int], cut: int) -> float:
    """The share of requests whose tool is among the first ``cut``."""
    return sum(place < cut for place in found) / len(found)


def offers(asked: Sequence[Request]) -> list[Offer]:
    """What an agent is offered for each request, by itself."""
    return [_offered(request) for request in asked]


def hits(made: Sequence[Offer]) -> float:
    """The share of offers in which a right tool is."""
    return sum(offer.hit for offer in made) / len(made)


def _offered(request: Request) -> Offer:
    begin = time.perf_counter()
    names = ROUTER.choose(catalog(), Wanted(request.text))
    seconds = time.perf_counter() - begin
    tokens = sum(_tokens()[name] for name in names)
    return Offer(not request.tools.isdisjoint(names), len(names), tokens, seconds)


@cache
def _tokens() -> dict[str, int]:
    return {spec.name: definition_tokens([spec]) for spec in catalog()}


def _print_recall() -> None:
    head = "".join(f"{cut:>7}" for cut in CUTS)
    print(f"{'recall':16}{head}   offered  95 % interval   tools  tokens")
    for name, groups in SETS.items():
        asked = requests(*groups)
        print(f"\n{name}, {len(asked)} requests")
        for ranking in RANKINGS:
            found = places(ranking, asked)
            line = "".join(f"{recall(found, cut):7.3f}" for cut in CUTS)
            print(f"    {ranking:12}{line}{_offer(asked) if ranking == 'fused' else ''}")
        print(f"{name}: done", file=sys.stderr)


def _offer(asked: Sequence[Request]) -> str:
    made = offers(asked)
    low, high = wilson(sum(offer.hit for offer in made), len(made))
    tools = statistics.mean(offer.tools for offer in made)
    tokens = statistics.mean(offer.tokens for offer in made)
    return f"   {hits(made):7.3f}  [{low:.3f}, {high:.3f}]{tools:8.1f}{tokens:8,.0f}"


def _print_costs() -> None:
    took = sorted(offer.seconds for offer in offers(requests()))
    print(f"a choice takes {statistics.median(took) * 1000:.1f} ms, ", end="")
    print(f"{took[len(took) * 99 // 100] * 1000:.1f} ms for 99 in 100")
    print(f"the definitions of all {len(catalog())}: ~{definition_tokens(catalog()):,} tokens\n")


def _print_first_use() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    ROUTER.choose(catalog(), Wanted("What will the weather be in Lyon?"))
    seconds = time.perf_counter() - begin
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"the first choice of a process takes {seconds:.2f} s and {grown:.0f} MiB")


def main() -> None:
    """Print recall, times, memory and tokens."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    _print_first_use()
    _print_costs()
    _print_recall()


if __name__ == "__main__":
    main()
