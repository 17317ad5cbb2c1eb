"""Drawings of small graphs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corral.cli.agents.drawing import Edge, draw, in_plain, ordered


def drawn(*edges: Edge) -> str:
    nodes = list(dict.fromkeys(name for edge in edges for name in (edge.source, edge.target)))
    return "\n".join(draw(ordered(nodes, edges), edges))


def test_a_line_is_drawn_downwards() -> None:
    assert drawn(Edge("start", "work"), Edge("work", "end")) == "start\n  ↓\nwork\n  ↓\nend"


def test_ways_back_and_past_are_at_the_side() -> None:
    shown = drawn(
        Edge("start", "plan"),
        Edge("plan", "work"),
        Edge("plan", "end", chosen=True),
        Edge("work", "plan", chosen=True, label="again"),
        Edge("work", "end", chosen=True),
    )
    assert shown.splitlines() == [
        "start",
        "  ↓",
        "plan ◀───────┐",
        "  ├┄┄┄┄┄┄┄┄┄┄┼┄┄┐",
        "  ↓          │  │",
        "work         │  │",
        "  ├┄ again ┄┄┘  │",
        "  ┆             │",
        "end ◀───────────┘",
    ]


def test_of_two_orders_the_one_with_less_at_the_side_is_drawn() -> None:
    to_and_fro = [Edge("moderate", "judge"), Edge("moderate", "speak"), Edge("speak", "moderate")]
    edges = [Edge("start", "moderate"), *to_and_fro, Edge("judge", "end")]
    nodes = ("start", "judge", "moderate", "speak", "end")
    assert ordered(nodes, edges) == ["start", "moderate", "speak", "judge", "end"]


def test_a_node_may_lead_to_itself_and_to_nowhere() -> None:
    assert drawn(Edge("start", "loop"), Edge("loop", "loop")).splitlines() == [
        "start",
        "  ↓",
        "loop ◀──┐",
        "  └─────┘",
    ]


def test_a_terminal_without_such_characters_gets_others() -> None:
    shown = in_plain(drawn(Edge("a", "b"), Edge("b", "a", chosen=True)))
    assert shown.isascii()
    assert shown.splitlines() == ["a <-----+", "  v     |", "b       |", "  +.....+"]


NODES = [f"n{number}" for number in range(7)]
EDGES = st.lists(
    st.builds(
        Edge,
        st.sampled_from(NODES),
        st.sampled_from(NODES),
        st.booleans(),
        st.sampled_from(("", "retry")),
    ),
    max_size=15,
    unique_by=lambda edge: (edge.source, edge.target),
)


@given(EDGES)
def test_every_node_is_drawn_once_and_every_way_leaves_and_arrives(edges: list[Edge]) -> None:
    nodes = ordered(NODES, edges)
    assert sorted(nodes) == NODES
    assert (nodes[0], nodes[-1]) == (NODES[0], NODES[-1])
    lines = draw(nodes, edges)
    assert [line.split()[0] for line in lines if line.startswith("n")] == nodes
    place = {node: at for at, node in enumerate(nodes)}
    beside = [edge for edge in edges if place[edge.target] != place[edge.source] + 1]
    assert sum(line.startswith(("  ├", "  └")) for line in lines) == len(beside)
    assert sum("◀" in line for line in lines) == len({edge.target for edge in beside})
