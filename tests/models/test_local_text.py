"""What of a growing text may be shown: markers never, not even their beginnings."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from corral.runtime.models.local.answering.text_gate import TextGate


def _run(gate: TextGate, pieces: list[str]) -> list[str]:
    shown = []
    for piece in pieces:
        shown.append(gate.push(piece))
        if gate.found is not None:
            break
    return [*shown, gate.finish()]


def test_a_marker_that_comes_in_pieces_is_never_shown() -> None:
    gate = TextGate(triggers=["<tool_call>"])
    shown = _run(gate, [" Let me look. ", "a <b", " c\n\n<to", "ol_", "call>\n{", "x"])
    assert "".join(shown) == "Let me look. a <b c"
    assert gate.triggered


def test_a_stop_text_is_no_trigger() -> None:
    gate = TextGate(stops=["END"], triggers=["CALL x"])
    assert "".join(_run(gate, ["one EN", "D CALL x"])) == "one"
    assert gate.found == "END"
    assert not gate.triggered


@given(st.text(alphabet="ab<> \n", max_size=40), st.lists(st.integers(1, 4), max_size=40))
def test_the_cut_does_not_depend_on_the_pieces(text: str, sizes: list[int]) -> None:
    pieces, rest = [], text
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    shown = "".join(_run(TextGate(triggers=["<ab>"]), [*pieces, rest]))
    assert shown == text.split("<ab>", maxsplit=1)[0].strip()
