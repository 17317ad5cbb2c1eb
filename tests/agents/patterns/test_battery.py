"""What holds for every pattern, also for one that is added tomorrow."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from annotated_types import Ge, Le
from langgraph.graph import END, START, MessagesState, StateGraph

import corral
from corral.agents.patterns.registry import PATTERNS, read_options
from corral.errors import ConfigError
from corral.runtime.config import Settings
from tests.agents.patterns.every import (
    CASES,
    paid,
    pair,
    patterned,
    sane,
)
from tests.agents.patterns.support import (
    Answering,
    approved,
    cut_and_resumed,
    solved,
)
from tests.agents.patterns.teams import calling, task
from tests.runtime.agents import Ledger, Turn

every_pattern = pytest.mark.parametrize("name", PATTERNS)


def test_every_pattern_is_in_the_battery() -> None:
    assert set(CASES) == set(PATTERNS)


@every_pattern
async def test_a_sane_model_gets_to_an_answer(settings: Settings, name: str) -> None:
    model = Answering(sane)
    assert (await solved(settings, patterned(name, model, *pair(model)))).output


@pytest.mark.slow
@every_pattern
async def test_an_approval_in_the_deepest_agent(settings: Settings, name: str) -> None:
    """Three levels: a supervisor, the pattern, and whoever works for that."""
    ledger = Ledger()

    def lead(request: Any) -> Turn | str:
        has_asked = request.messages[-1].type == "tool"
        return "All paid." if has_asked else calling(task("lead", "Pay."))

    above = patterned("supervisor", Answering(lead), paid(name, ledger), name="above")
    questions = await approved(settings, above, "pay")
    assert questions == len(ledger.paid)
    assert questions >= (name not in NO_TOOLS)


NO_TOOLS = frozenset({"tree_of_thoughts", "mcts"})
"""The patterns in which nobody calls tools: their model proposes, values and answers."""


@pytest.mark.slow
@every_pattern
@pytest.mark.parametrize("after", [1, 3])
async def test_cut_off_and_resumed(settings: Settings, name: str, after: int) -> None:
    ledger = Ledger()
    assert (await cut_and_resumed(settings, paid(name, ledger), after)).output


async def test_a_graph_of_ones_own_has_every_pattern_as_a_node(settings: Settings) -> None:
    def build(kit: corral.Kit) -> StateGraph[Any, Any, Any, Any]:
        graph = StateGraph(MessagesState)
        for name, case in CASES.items():
            inner = corral.pattern_graph(kit, name, **dict(case.options))
            graph.add_node(f"by {name}", inner.compile())
        nodes = [START, *(f"by {name}" for name in CASES), END]
        for before, after in pairwise(nodes):
            graph.add_edge(before, after)
        return graph

    model = Answering(sane)
    agent = patterned("react", model, *pair(model), graph=build, options={})
    done = await solved(settings, agent)
    assert done.output
    for name in CASES:
        assert any(f".by {name}#" in entry.path for entry in done.journal), name


async def test_a_supervisor_has_every_pattern_as_a_worker(settings: Settings) -> None:
    model = Answering(sane)
    team = [patterned(name, model, *pair(model), name=name) for name in CASES]

    def lead(request: Any) -> Turn | str:
        has_asked = request.messages[-1].type == "tool"
        return "All done." if has_asked else calling(*(task(name, "Do it.") for name in CASES))

    options = {"calls": len(CASES)}
    agent = patterned("supervisor", Answering(lead), *team, options=options)
    done = await solved(settings, agent)
    assert done.output == "All done."
    tasks = [entry for entry in done.journal if entry.kind == "agent" and entry.name in CASES]
    assert {entry.name for entry in tasks} == set(CASES)
    given: list[Any] = [entry.result for entry in tasks]
    assert not any(result["is_error"] for result in given)


def _reading(name: str, **options: Any) -> str:
    """What is said of options that do not fit: the message and the hint."""
    model = Answering(sane)
    agent = patterned(name, model, *pair(model), options=options)
    with pytest.raises(ConfigError) as refused:
        read_options(agent)
    assert refused.value.hint
    return f"{refused.value.message}\n{refused.value.hint}"


@every_pattern
def test_every_number_is_bounded_and_what_is_beyond_is_refused(name: str) -> None:
    for option, about in PATTERNS[name].options.model_fields.items():
        if about.annotation not in (int, float, float | None):
            continue
        least = next(one.ge for one in about.metadata if isinstance(one, Ge))
        most = next(one.le for one in about.metadata if isinstance(one, Le))
        for beyond in (least - 1, most + 1):  # type: ignore[operator]  # they are numbers
            assert f"do not fit the pattern {name}: {option}: " in _reading(
                name, **{option: beyond}
            )


@every_pattern
def test_an_unknown_option_is_told_what_was_meant(name: str) -> None:
    for option in PATTERNS[name].options.model_fields:
        assert f"Did you mean {option!r}?" in _reading(name, **{f"{option}_": 1})
    assert "Its options are: " in _reading(name, qqq=1)


@every_pattern
def test_a_member_that_is_not_in_the_team_is_refused(name: str) -> None:
    pattern = PATTERNS[name]
    for option, about in pattern.options.model_fields.items():
        if about.annotation is not str:
            continue
        if "ghost" in pattern.options.model_validate({option: "ghost"}).members():
            words = _reading(name, **{option: "ghost"})
            assert "names 'ghost' in its options, which is not in its team" in words
            assert "They are: alpha, beta." in words


PAGE = (Path(__file__).resolve().parents[3] / "docs" / "patterns.md").read_text("utf-8")


def _sections() -> dict[str, str]:
    """The parts of the page that are about a pattern, by its name."""
    parts = (part.partition("`\n") for part in PAGE.split("\n## `")[1:])
    return {name: text for name, _, text in parts}


def _documented(section: str) -> dict[str, str]:
    """The options in the table of a section, each with what is said of its default."""
    rows = (line.split("|")[1:3] for line in section.splitlines() if line.startswith("| `"))
    found: dict[str, str] = {}
    for names, default in rows:
        options = re.findall(r"`(\w+)`", names)
        said = [part.strip().strip("`") for part in default.split(", ")]
        shared = said if len(said) == len(options) else [default.strip(" `")] * len(options)
        found.update(zip(options, shared, strict=True))
    return found


def _said(default: Any) -> str | None:
    """How a default stands on the page; ``None``: in words, or not at all."""
    if default in ("", (), None):
        return None
    return str(default).lower() if isinstance(default, bool) else f"{default}"


@every_pattern
def test_the_page_has_every_option_with_its_default(name: str) -> None:
    options = PATTERNS[name].options.model_fields
    section = _sections()["supervisor" if name == "hierarchical" else name]
    documented = _documented(section)
    assert set(documented) == set(options)
    for option, about in options.items():
        default = _said(about.default)
        assert default is None or documented[option] == default, option


def test_the_page_has_every_pattern() -> None:
    assert set(_sections()) == set(PATTERNS)
    assert set(re.findall(r"^\| \[`(\w+)`\]\(#\1\) \|", PAGE, re.MULTILINE)) == set(PATTERNS)
