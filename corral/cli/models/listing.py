"""What can be written after ``--model``: ``corral models list``. No header is read twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current
from corral.cli.output import clean, console, emit, one_line
from corral.cli.render import table

if TYPE_CHECKING:
    from corral.jsontypes import JsonObject
    from corral.runtime.config import Settings
    from corral.runtime.models.local.files.index import FileFacts

BUNDLED = "bundled"


@dataclass(frozen=True)
class Line:
    """A model file: what opens it, where it is, what it is."""

    ref: str
    place: str
    path: str
    facts: FileFacts

    def to_json(self) -> JsonObject:
        """All that is known; ``problem`` is empty for a model that can be loaded."""
        return {
            "ref": self.ref,
            "place": self.place,
            "path": self.path,
            "kind": self.facts.kind,
            "architecture": self.facts.architecture,
            "quantization": self.facts.quantization,
            "context_length": self.facts.context_length,
            "size": self.facts.size,
            "problem": self.facts.problem,
        }


def list_(
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List what can be written after --model: models on this machine, and other forms.

    Models are looked for in the folders of model_dirs, and where Hugging Face, Ollama, LM Studio
    and llama.cpp keep theirs.
    """
    settings = current().settings()
    lines = list(_lines(settings))
    if json:
        for line in lines:
            emit(line.to_json())
        for ref, what in _forms(settings):
            emit({"ref": ref, "what": what})
        return
    _show(lines)
    forms = table("or write", "to get")
    for ref, what in _forms(settings):
        forms.add_row(clean(ref), clean(what))
    console().print()
    console().print(forms)


def _lines(settings: Settings) -> Iterator[Line]:
    from corral.errors import ModelError
    from corral.runtime.models.local.files.catalog import find_models
    from corral.runtime.models.local.files.index import read_facts
    from corral.runtime.models.local.model import bundled_model

    try:
        bundled = bundled_model()
    except ModelError:
        pass  # it is a package of its own, which may be left out
    else:
        yield Line("local", BUNDLED, str(bundled), read_facts(bundled)[0])
    for found in find_models(settings.local.model_dirs):
        yield Line(f"local:{found.name}", found.place, str(found.path), found.facts)


def _forms(settings: Settings) -> Iterator[tuple[str, str]]:
    from corral.runtime.models.registry import describe_models

    for name in settings.models:
        yield name, f"several models, as [models.{name}] combines them"
    yield from describe_models()


def _show(lines: list[Line]) -> None:
    from corral.runtime.models.local.files.sizes import shown_bytes

    drawn = table("model", "size", "quant", "context", "where", "")
    for line in lines:
        facts = line.facts
        if facts.problem:
            continue
        drawn.add_row(
            clean(line.ref),
            shown_bytes(facts.size),
            clean(facts.quantization),
            f"{facts.context_length:,}" if facts.context_length else "",
            clean(line.place),
            "embeddings" if facts.kind == "embedding" else "",
        )
    console().print(drawn)
    broken = [line for line in lines if line.facts.problem]
    if broken:
        console().print("\ncannot be loaded", style="bold")
    for line in broken:
        console().print(f"{clean(line.ref)}: {one_line(line.facts.problem, 300)}")
