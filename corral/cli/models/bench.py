"""How fast a model is on this machine: ``corral models bench``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current, wait
from corral.cli.output import clean, console, emit, note
from corral.cli.render import table
from corral.errors import UsageError

if TYPE_CHECKING:
    from corral.cli.models.measuring import Measured, Plan
    from corral.runtime.config import Settings

MAX_PARALLEL = 64


def bench(
    ref: Annotated[str, typer.Argument(metavar="MODEL", help="As after --model.")],
    prompt_tokens: Annotated[
        int, typer.Option(min=1, metavar="N", help="Tokens of the prompt, about.")
    ] = 512,
    tokens: Annotated[int, typer.Option(min=2, metavar="N", help="Tokens of each answer.")] = 64,
    parallel: Annotated[
        str, typer.Option(metavar="N,N", help="How many answers at once, in turn.")
    ] = "1,2,4,8",
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Measure loading, evaluation, decoding and time to first token. A hosted model costs money."""
    from corral.cli.models.measuring import Plan

    plan = Plan(prompt_tokens, tokens, _counts(parallel))
    measured = wait(_measure(current().settings(), ref, plan))
    if json:
        emit(measured.to_json())
    else:
        _show(measured)


def _counts(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    counts = [int(word) for word in words if word.isascii() and word.isdigit()]
    if len(counts) != len(words) or not all(0 < count <= MAX_PARALLEL for count in counts):
        raise UsageError(
            f"--parallel {text!r} is no list of numbers from 1 to {MAX_PARALLEL}.",
            hint="Write it like this: --parallel 1,4",
        )
    return counts


async def _measure(settings: Settings, ref: str, plan: Plan) -> Measured:
    from corral.cli.models.measuring import measure
    from corral.cli.models.opening import opened

    model = opened(ref, settings)
    try:
        return await measure(model, plan, _tell)
    finally:
        await model.aclose()
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")


def _tell(text: str) -> None:
    """What goes on, in one line of a terminal; a log gets nothing of it."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{clean(text)[:100]}")
        sys.stderr.flush()


def _show(measured: Measured) -> None:
    from corral.runtime.models.local.files.sizes import shown_bytes

    drawn = table(clean(measured.model), "")
    drawn.columns[1].justify = "right"
    rows = [
        ("load, and a first token", f"{measured.load_ms:,.0f} ms"),
        (f"prompt of {measured.prompt_tokens:,} tokens", f"{measured.prompt_per_second:,.1f} /s"),
        ("first token, new prompt", f"{measured.first_token_new_ms:,.0f} ms"),
        (
            f"first token, {measured.cached_tokens:,} tokens cached",
            f"{measured.first_token_cached_ms:,.0f} ms",
        ),
        ("decode, one answer", f"{measured.decode_per_second:,.1f} /s"),
    ]
    for group in measured.parallel:
        answers = "answer" if group.agents == 1 else "answers"
        rows.append((f"decode, {group.agents} {answers}", f"{group.tokens_per_second:,.1f} /s"))
    rows.append(("memory of this process", shown_bytes(measured.memory_bytes)))
    for row in rows:
        drawn.add_row(*row)
    console().print(drawn)
    if not measured.parallel:
        note("Nothing was measured in parallel.")
