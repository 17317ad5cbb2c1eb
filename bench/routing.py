"""How often the right tool is among the 15 that an agent with 500 tools is offered, and how fast.

The requests are labelled (``bench/_requests.py``): those that all was tuned on, and two groups that
were held out.

    keywords     BM25 over the words of the definitions, the request widened (`wording.py`)
    embeddings   static token embeddings
    fused        both: what agents get
"""

from __future__ import annotations

import argparse
import resource
import statistics
import time
from collections.abc import Sequence

from bench._requests import GROUPS, Request, catalog, requests
from corral.runtime.tool_tokens import definition_tokens
from corral.tools.router.choice import Router, Wanted
from corral.tools.router.index import Ranking, tool_index
from corral.tools.router.settings import ToolsSettings

RANKINGS: tuple[Ranking, ...] = ("keywords", "embeddings", "fused")
CUTS = (5, 10, 15, 20)


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


def _print_recall() -> None:
    print(f"{'recall at':36}" + "".join(f"{cut:>8}" for cut in CUTS))
    for group in GROUPS:
        asked = requests(group)
        print(f"{group}, {len(asked)} requests")
        for ranking in RANKINGS:
            found = places(ranking, asked)
            print(f"    {ranking:32}" + "".join(f"{recall(found, cut):8.3f}" for cut in CUTS))


def _print_costs() -> None:
    tools, router = catalog(), Router(ToolsSettings())
    took: list[float] = []
    offered: list[int] = []
    by_name = {spec.name: spec for spec in tools}
    for request in requests():
        begin = time.perf_counter()
        names = router.choose(tools, Wanted(request.text))
        took.append(time.perf_counter() - begin)
        offered.append(definition_tokens([by_name[name] for name in names]))
    took.sort()
    print(f"a choice takes {statistics.median(took) * 1000:.1f} ms, ", end="")
    print(f"{took[len(took) * 99 // 100] * 1000:.1f} ms for 99 in 100")
    print(f"definitions: ~{definition_tokens(tools):,} tokens for all {len(tools)} tools, ", end="")
    print(f"~{statistics.median(offered):,.0f} for those offered")


def _print_first_use() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin = time.perf_counter()
    Router(ToolsSettings()).choose(catalog(), Wanted("What will the weather be in Lyon?"))
    seconds = time.perf_counter() - begin
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(f"the first choice of a process takes {seconds:.2f} s and {grown:.0f} MiB")


def main() -> None:
    """Print recall, times, memory and tokens."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    _print_first_use()
    _print_costs()
    _print_recall()


if __name__ == "__main__":
    main()
