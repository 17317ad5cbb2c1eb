"""What stands above and below a trace: the run, its figures, where its time went, what is next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len, set_cell_size

from corral.cli.approvals import ways_to_answer
from corral.cli.context import current
from corral.cli.output import clean, one_line
from corral.cli.preview import call_text
from corral.cli.render import STATUS_STYLE
from corral.cli.trace.data import Trace
from corral.cli.trace.filters import Filter
from corral.runtime.answer_facts import how_answered
from corral.runtime.views import EffectView, Totals

Piece = tuple[str, str]
"""A text that is clean, and the name of its style."""

Line = list[Piece]
"""A line: its pieces from left to right."""

CRITICAL = "◆"
"""Stands before an effect on the critical path."""


def used(totals: Totals) -> list[str]:
    """Tokens and money in words; nothing for nothing."""
    said = []
    if totals.input_tokens or totals.output_tokens:
        parts = ((totals.cached_tokens, "cached"), (totals.reasoning_tokens, "reasoning"))
        apart = ", ".join(f"{count} {what}" for count, what in parts if count)
        tokens = f"{totals.input_tokens}+{totals.output_tokens} tokens"
        said.append(f"{tokens} ({apart})" if apart else tokens)
    if totals.cost_usd:
        said.append(f"${totals.cost_usd:.4f}")
    return said


def pace(effect: EffectView) -> list[str]:
    """How fast a model answered, in words, as far as that is known."""
    said = []
    if effect.first_token_ms is not None:
        said.append(f"first token after {brief(effect.first_token_ms)}")
    if effect.tokens_per_second is not None:
        said.append(f"{effect.tokens_per_second:.1f} tokens/s")
    return said


def answered_by(effect: EffectView) -> list[str]:
    """Which model answered, where that is not the one that was asked, and how that came."""
    by = [f"answered by {clean(effect.answered_by)}"] if effect.answered_by else []
    return [*by, *(one_line(how, 120) for how in how_answered(effect.result))]


def columns(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return len(text) if text.isascii() else cell_len(text)


def fitted(text: str, width: int) -> str:
    """A text that takes at most ``width`` columns, with a mark where it was cut."""
    if columns(text) <= width:
        return text
    return f"{set_cell_size(text, width - 1).rstrip()}…"


def brief(milliseconds: float) -> str:
    """A duration in at most nine columns: ``12 ms``, ``1.2 s``, ``9 m 52 s``, ``3 h 20 m``."""
    if milliseconds < 999.5:
        return f"{milliseconds:.0f} ms"
    if milliseconds < 59_950:
        return f"{milliseconds / 1000:.1f} s"
    seconds = round(milliseconds / 1000)
    for size, unit, less in ((86_400, "d", "h"), (3600, "h", "m")):
        if seconds >= size:
            part = 3600 if less == "h" else 60
            return f"{seconds // size} {unit} {seconds % size // part} {less}"
    return f"{seconds // 60} m {seconds % 60} s"


def flow(parts: Sequence[str], width: int, style: str = "", indent: str = "  ") -> Iterator[Line]:
    """Texts joined by dots, on as many lines as it takes."""
    line = indent
    for part in parts:
        longer = f"{line} · {part}" if line.strip() else f"{indent}{part}"
        if line.strip() and columns(longer) > width:
            yield [(line, style)]
            longer = f"{indent}{part}"
        *full, line = wrapped(longer, max(width, 16))
        yield from ([(piece, style)] for piece in full)
    yield [(line, style)]


def wrapped(line: str, width: int) -> Iterator[str]:
    """A line in pieces of at most ``width`` columns, cut between words where there are any."""
    while columns(line) > width:
        piece = line[: width + 1]
        while columns(piece) > width:
            piece = piece[:-1]
        between = piece.rfind(" ") if line[len(piece)] != " " else len(piece)
        cut = between if between > width // 2 else len(piece)
        yield line[:cut]
        line = line[cut:].lstrip(" ") if cut == between else line[cut:]
    yield line


def head(trace: Trace, width: int) -> Iterator[Line]:
    """The run: how it stands, what it used, what it was asked."""
    run = trace.run
    word = standing_word(trace)
    line: Line = [("run ", "bold"), (run.run, "bold"), ("  ", "")]
    yield [*line, (word, STATUS_STYLE.get(run.status, ""))]
    wall = brief(trace.critical.wall_ms)
    calls = f"{run.steps} model call{'' if run.steps == 1 else 's'}"
    facts = [clean(run.agent), clean(run.model), wall, calls, *used(run.usage)]
    yield from flow(facts, width, "dim")
    for text in _history(trace):
        yield [(f"  {text}", "dim")]
    if run.error:
        for said in clean(run.error).splitlines():
            yield from ([(f"  {text}", "red")] for text in wrapped(said, max(width - 2, 16)))
    yield [("prompt  ", "dim"), (fitted(one_line(run.prompt, 400), max(16, width - 8)), "")]
    yield []


def standing_word(trace: Trace) -> str:
    """The run's status; for one that no process runs any more, that."""
    if trace.run.status == "running" and not trace.standing.is_live:
        return "cut off"
    return trace.run.status


def _history(trace: Trace) -> Iterator[str]:
    """Where the run came from, and what has become of it."""
    run, left = trace.run, trace.standing.left
    if left is not None:
        changed = ", ".join(clean(str(name)) for name in left.changes) or "nothing"
        yield f"fork of {clean(left.parent)} at effect {left.at}; changed: {changed}"
    if run.origin:
        yield f"imported from {one_line(run.origin, 100)}"
    if run.rewound:
        yield "taken back by a rewind"


def foot(trace: Trace, only: Filter, width: int, *, marked: bool = True) -> Iterator[Line]:
    """What it answered, where its time went, and how it goes on.

    Where the effects on the critical path are not ``marked``, they are listed.
    """
    run = trace.run
    if run.output:
        yield []
        yield [("output  ", "dim"), (fitted(one_line(run.output, 400), max(16, width - 8)), "")]
    yield []
    if only:
        yield from flow(_shown(trace, only), width, "dim", "")
    if trace.effects:
        yield from _times(trace, width)
        yield from _critical(trace, width, marked=marked)
    yield from next_steps(trace)


def _shown(trace: Trace, only: Filter) -> list[str]:
    found = [effect for effect in trace.effects if only.shows(effect)]
    lasted = brief(sum(effect.duration_ms or 0.0 for effect in found))
    facts = [f"{len(found)} of {len(trace.effects)} effects shown", f"{lasted} in them"]
    return [*facts, *used(Totals.of(found))]


def _times(trace: Trace, width: int) -> Iterator[Line]:
    """The wall time and its parts, the longest first."""
    path = trace.critical
    parts = [
        ("model", path.model_ms),
        ("tools", path.tool_ms),
        ("waiting for a human", path.human_ms),
        ("other effects", path.other_ms),
        ("nothing recorded", path.unrecorded_ms),
    ]
    parts.sort(key=lambda part: -part[1])
    shown = [f"{what} {brief(ms)} ({_share(ms, path.wall_ms)})" for what, ms in parts if ms > 0]
    yield from flow(
        [f"time {brief(path.wall_ms)}: {shown[0]}" if shown else "", *shown[1:]], width, "", ""
    )


def _critical(trace: Trace, width: int, *, marked: bool) -> Iterator[Line]:
    if marked:
        yield [(f"{CRITICAL} on the critical path: what the run's time went to", "dim")]
        return
    seqs = trace.critical.seqs
    left_out = ["…"] if len(seqs) > 60 else []
    shown = [*map(str, seqs[:30]), *left_out, *map(str, seqs[30:][-30:])]
    if shown:
        shown[0] = f"critical path: effects {shown[0]}"
        yield from flow(shown, width, "dim", "")


def _share(part: float, whole: float) -> str:
    share = part / whole if whole else 0.0
    return "<1%" if share < 0.005 else f"{share:.0%}"


def next_steps(trace: Trace) -> Iterator[Line]:
    """What can be done about a run that waits, was cut off, or did not do well."""
    run, command = trace.run, current().command
    for question in trace.questions:
        if run.status != "paused":
            break
        call = clean(call_text(question.tool, question.args, 120))
        yield [(f"{clean(question.id)} waits for an answer: ", "yellow"), (call, "")]
        for way in ways_to_answer(question):
            yield [(f"  {way}", "")]
    if run.status == "paused":
        yield [("then go on: ", "dim"), (clean(command("resume", run.run)), "")]
    elif run.status == "running" and not trace.standing.is_live:
        yield [("nobody runs it; go on: ", "yellow"), (clean(command("resume", run.run)), "")]
    elif run.status == "running":
        yield [
            ("it is going on; watch: ", "dim"),
            (clean(command("trace", run.run, "--follow")), ""),
        ]
    elif run.status in ("failed", "stopped"):
        yield [("try again from there: ", "dim"), (clean(command("resume", run.run)), "")]
