"""Policies written in TOML.

    preset = "ask"                       # optional: these rules come after the file's own

    [[rules]]
    tool = "files__write_file"
    args = {path = "reports/**"}
    action = "allow"                     # or "ask", "deny"
    reason = "reports are the agent's own"

Reading the file is the caller's. Everything that is not understood is an error with its line: a
rule that was meant and does not hold is worse than none.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TypeVar

from pydantic import BaseModel

from corral.errors import ConfigError
from corral.jsontypes import JsonObject
from corral.policies.presets import PRESETS
from corral.policies.provenance.sources import SourceRule
from corral.policies.rules import LayerName, Policy, Rule
from corral.policies.writing.documents import Document, as_toml, listed, suggest
from corral.policies.writing.tables import Place, read_table

M = TypeVar("M", bound=BaseModel)

_TOP_KEYS = ("preset", "rules", "sources")


def parse_policy(
    text: str, source: str, *, layer: LayerName = "user", others: Collection[str] = ()
) -> Policy:
    """Read a policy file. ``source`` is its path and ``others`` are keys to pass over.

    The policy is named after its file, and no agent may write that file. Raises ``ConfigError``
    with the line and the remedy.
    """
    document = Document(text, source)
    data = document.load()
    for key in data:
        if key not in _TOP_KEYS and key not in others:
            raise document.error(
                f"{key!r} means nothing in a policy",
                suggest(key, (*_TOP_KEYS, *others)) or f"Use {listed(_TOP_KEYS)}.",
                document.line_of(key),
            )
    return _policy(document, data, layer, _preset(data, document))


def parse_rules(text: str, source: str, layer: LayerName) -> Policy:
    """The rules and sources of a configuration file, whatever else it holds.

    Raises ``ConfigError``.
    """
    document = Document(text, source)
    return _policy(document, document.load(), layer, None)


def parse_rule(text: str, source: str) -> Rule:
    """One rule as TOML: the lines of its table, or ``{tool = "x__y", action = "deny"}``.

    Raises ``ConfigError``.
    """
    inline = text.strip().startswith("{")
    document = Document(f"rule = {text.strip()}" if inline else text, source)
    data = document.load()
    return read_table(Rule, data["rule"] if inline else data, Place(document, "rules", "rule", 1))


def find_preset(name: str) -> Policy:
    """The preset of this name. Raises ``ConfigError`` that names the nearest one."""
    if name in PRESETS:
        return PRESETS[name]
    hint = suggest(name, PRESETS) or f"Use {listed(PRESETS)}, or the path of a policy file."
    raise ConfigError(f"There is no policy {name!r}.", hint=hint)


def _policy(document: Document, data: JsonObject, layer: LayerName, base: Policy | None) -> Policy:
    rules = _tables(document, data, ("rules", "rule"), Rule)
    _refuse_contradictions(rules, document)
    return Policy(
        name=document.source.rsplit("/", 1)[-1],
        rules=rules,
        base=base,
        files=(document.source,),
        layer=layer,
        lines=tuple(document.line_of_table("rules", n) for n in range(1, len(rules) + 1)),
        sources=_tables(document, data, ("sources", "source"), SourceRule),
    )


def _tables(
    document: Document, data: JsonObject, names: tuple[str, str], model: type[M]
) -> tuple[M, ...]:
    key, noun = names
    return tuple(
        read_table(model, table, Place(document, key, noun, number))
        for number, table in enumerate(document.tables(data, key), start=1)
    )


def _preset(data: JsonObject, document: Document) -> Policy | None:
    name = data.get("preset")
    if name is None:
        return None
    if not isinstance(name, str) or name not in PRESETS:
        raise document.error(
            f"preset = {as_toml(name)} is not a preset",
            suggest(name, PRESETS) or f"Use {listed(PRESETS)}.",
            document.line_of("preset"),
        )
    return PRESETS[name]


def _refuse_contradictions(rules: tuple[Rule, ...], document: Document) -> None:
    """Two rules for just the same calls that say different things: nobody can mean both."""
    seen: dict[str, int] = {}
    for number, rule in enumerate(rules, start=1):
        first = seen.setdefault(rule.conditions_json(), number)
        other = rules[first - 1]
        if other.action != rule.action:
            line = document.line_of_table("rules", first)
            where = f"rule {first}" if line is None else f"rule {first} (line {line})"
            raise document.error(
                f"rule {number} says {rule.action} for the same calls for which {where} "
                f"says {other.action}",
                "Keep the one that you mean.",
                document.line_in("rules", number, "action"),
            )
