"""Tool definitions as text: what of them is ranked, and whose words they are.

A definition is its server's own words. Lengths and counts are bounded, so that no tool can be
offered for every request by holding all the words that there are.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from itertools import islice

from corral.jsontypes import Json
from corral.policies.provenance.labels import PUBLIC, Label
from corral.ranking import terms
from corral.tools.contract import ToolSpec

MAX_DESCRIPTION = 400
"""How many characters of a description count."""

MAX_PARAMETERS = 12
"""How many parameters count, by their names."""

_MAX_NAME = 64
_MOST_OFTEN = 2  # a term said more often counts no more
_NAMED = 2  # how often a term of the tool's own name counts
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NO_LETTERS = re.compile(r"[\W_]+")


def spaced(name: str) -> str:
    """A name in words: ``createPull_request`` is ``create Pull request``."""
    return _NO_LETTERS.sub(" ", _CAMEL.sub(" ", name[:_MAX_NAME])).strip()


def definition_text(spec: ToolSpec) -> str:
    """A tool in a sentence, as an embedding sees it."""
    described = spec.description[:MAX_DESCRIPTION]
    return f"{spaced(spec.server)}: {spaced(spec.tool)}. {described}"


def definition_terms(spec: ToolSpec) -> Counter[str]:
    """The searchable terms of a tool, and how much each counts."""
    found: Counter[str] = Counter()
    for term, count in Counter(terms(spec.description[:MAX_DESCRIPTION])).items():
        found[term] += min(count, _MOST_OFTEN)
    for term in set(terms(f"{spaced(spec.server)} {spaced(spec.tool)}")):
        found[term] += _NAMED
    for term in set(terms(" ".join(_parameters(spec)))):
        found[term] += 1
    return found


def definitions_label(specs: Iterable[ToolSpec]) -> Label:
    """The label of what tools say of themselves: their servers' words, as any result of theirs."""
    servers = dict.fromkeys(spec.server for spec in specs if not spec.trusted)
    return PUBLIC.join(*(Label((f"the tools of {name}",), untrusted=True) for name in servers))


def _parameters(spec: ToolSpec) -> list[str]:
    properties: Json = spec.input_schema.get("properties")
    if not isinstance(properties, dict):
        return []
    return [spaced(name) for name in islice(properties, MAX_PARAMETERS)]
