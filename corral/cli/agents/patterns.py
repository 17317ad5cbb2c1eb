"""The patterns, with their options, for a person and as JSON."""

from __future__ import annotations

from collections.abc import Iterator

from corral.agents.patterns.contract import Pattern
from corral.cli.output import one_line
from corral.jsontypes import JsonObject, canonical


def described(pattern: Pattern) -> Iterator[str]:
    """A pattern in a few lines."""
    yield f"{pattern.name}: {pattern.summary}"
    yield f"  {pattern.source}"
    for key, field in pattern.options.model_json_schema().get("properties", {}).items():
        default = f" = {one_line(canonical(field['default']), 40)}" if "default" in field else ""
        yield f"    {key}{default}  {field.get('description', '')}".rstrip()


def pattern_json(pattern: Pattern) -> JsonObject:
    """A pattern as a JSON object; ``options`` is the JSON Schema of its options."""
    return {
        "name": pattern.name,
        "summary": pattern.summary,
        "source": pattern.source,
        "options": pattern.options.model_json_schema(),
    }
