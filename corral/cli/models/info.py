"""What is known of one model: ``corral models info``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current
from corral.cli.output import clean, console, emit
from corral.cli.render import table

if TYPE_CHECKING:
    from corral.jsontypes import Json, JsonObject

_OF_GPUS = frozenset({"gpu_bytes", "gpu_layers", "gpus"})


def info(
    ref: Annotated[str, typer.Argument(metavar="MODEL", help="As after --model.")] = "local",
    json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Show what a model is, what it can do, what it will take in memory, and what fits here."""
    from corral.cli.models.facts import model_facts

    facts = model_facts(ref, current().settings())
    if json:
        emit(facts)
        return
    drawn = table("model", clean(ref))
    for name, value in _worth_a_line(facts).items():
        drawn.add_row(_label(name), clean(_words(name, value)))
    console().print(drawn)


def _worth_a_line(facts: JsonObject) -> JsonObject:
    """Without what says nothing: the shares of GPUs that there are not."""
    if facts.get("gpus") != []:
        return facts
    return {name: value for name, value in facts.items() if name not in _OF_GPUS}


def _label(name: str) -> str:
    return name.removesuffix("_bytes").replace("_", " ")


def _words(name: str, value: Json) -> str:
    from corral.runtime.models.local.files.sizes import shown_bytes

    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name.endswith("bytes"):
        return shown_bytes(value)
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, dict):
        words = {key: _words(key, one) for key, one in value.items() if one is not None}
        return ", ".join(f"{key} {one}" for key, one in words.items())
    if isinstance(value, list | tuple):
        return "; ".join(_words(name, one) for one in value) or "none"
    return "unknown" if value is None else str(value)
