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

import difflib
import re
import tomllib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError

from corral.errors import ConfigError
from corral.jsontypes import canonical
from corral.policies.presets import PRESETS
from corral.policies.rules import Action, Policy, Rule

_ACTIONS: tuple[str, ...] = get_args(Action)
_TOP_KEYS = ("preset", "rules")
_HEADER = re.compile(r"\s*\[\[\s*(?:rules|'rules'|\"rules\")\s*\]\]")
_ANY_HEADER = re.compile(r"\s*\[")


def parse_policy(text: str, source: str, *, others: Collection[str] = ()) -> Policy:
    """Read a policy. ``source`` is the path of its file and ``others`` are keys to pass over.

    Pass in ``others`` the sections that a ``corral.toml`` holds besides its rules. The policy is
    named after its file, and no agent may write that file. Raises ``ConfigError`` with the line
    and the remedy.
    """
    document = _Document(text, source)
    data = document.load()
    for key in data:
        if key not in _TOP_KEYS and key not in others:
            known = (*_TOP_KEYS, *others)
            raise document.error(
                f"{key!r} means nothing in a policy",
                _suggest(key, known) or f"Use {_listed(_TOP_KEYS)}.",
                document.line_of(key),
            )
    base = _preset(data, document)
    rules = data.get("rules", [])
    if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
        raise document.error(
            "'rules' is not a list of rules",
            'Begin each rule with a line [[rules]], then tool = "…" and action = "…".',
            document.line_of("rules"),
        )
    return Policy(
        name=source.rsplit("/", 1)[-1],
        rules=tuple(_rule(rule, number, document) for number, rule in enumerate(rules, start=1)),
        base=base,
        files=(source,),
    )


def find_preset(name: str) -> Policy:
    """The preset of this name. Raises ``ConfigError`` that names the nearest one."""
    if name in PRESETS:
        return PRESETS[name]
    hint = _suggest(name, PRESETS) or f"Use {_listed(PRESETS)}, or the path of a policy file."
    raise ConfigError(f"There is no policy {name!r}.", hint=hint)


@dataclass(frozen=True)
class _Document:
    """The text of a policy and where it comes from."""

    text: str
    source: str

    def load(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self.text)
        except ValueError as error:
            found = re.search(
                r"\s*\((?:at line (\d+), column \d+|at end of document)\)", str(error)
            )
            line = int(found[1]) if found and found[1] else self.text.count("\n") + 1
            what = str(error)[: found.start()] if found else str(error)
            raise self.error(
                f"this is not valid TOML: {what}",
                "Correct this line; texts stand in double quotes.",
                line,
            ) from error
        except RecursionError as error:
            raise self.error("values are nested too deeply", "Write it flatter.", None) from error

    def error(self, what: str, hint: str, line: int | None) -> ConfigError:
        where = self.source if line is None else f"{self.source}, line {line}"
        return ConfigError(f"{where}: {what}.", hint=hint)

    def line_of(self, key: str, rule: int | None = None) -> int | None:
        """The line on which a key stands, at the top or in a rule; else the rule's first line."""
        name = re.escape(key)
        pattern = re.compile(rf"""\s*(?:\[+\s*)?(?:{name}|'{name}'|"{name}")\s*[\]=.]""")
        lines = self.text.split("\n")
        headers = [number for number, line in enumerate(lines) if _HEADER.match(line)]
        start, fallback = 0, None
        if rule is not None and rule <= len(headers):
            start = headers[rule - 1]
            fallback = start + 1
        for number, line in enumerate(lines[start:], start=start):
            if pattern.match(line):
                return number + 1
            if rule is not None and number > start and _ANY_HEADER.match(line):
                break
        return fallback


def _preset(data: dict[str, Any], document: _Document) -> Policy | None:
    name = data.get("preset")
    if name is None:
        return None
    if not isinstance(name, str) or name not in PRESETS:
        raise document.error(
            f"preset = {_as_toml(name)} is not a preset",
            _suggest(name, PRESETS) or f"Use {_listed(PRESETS)}.",
            document.line_of("preset"),
        )
    return PRESETS[name]


def _rule(data: dict[str, Any], number: int, document: _Document) -> Rule:
    for key in data:
        if key not in Rule.model_fields:
            raise document.error(
                f"rule {number} has a key {key!r}, which means nothing",
                _suggest(key, Rule.model_fields) or f"Use {_listed(Rule.model_fields)}.",
                document.line_of(key, number),
            )
    if "action" not in data:
        raise document.error(
            f"rule {number} has no action",
            f"Add action = {_listed(_ACTIONS)}.",
            document.line_of("action", number),
        )
    try:
        return Rule.model_validate(data)
    except ValidationError as error:
        raise _explain(error, number, document) from error


def _explain(error: ValidationError, number: int, document: _Document) -> ConfigError:
    """The first thing that is wrong with a rule, in the words of the file."""
    first = error.errors(include_url=False)[0]
    key, value = str(first["loc"][0]), first["input"]
    name = ".".join(map(str, first["loc"]))
    what = f"{name} = {_as_toml(value)} in rule {number} cannot be understood"
    match first["type"]:
        case "literal_error":
            hint = _suggest(value, _ACTIONS) or f"Use {_listed(_ACTIONS)}."
        case "string_type" if isinstance(value, bool | int | float):
            hint = f'Patterns are texts: write "{canonical(value)}" in quotes.'
        case "string_type":
            hint = "Write a text in double quotes."
        case "dict_type":
            hint = 'Write a table of patterns, such as args = {path = "reports/**"}.'
        case "tuple_type":
            hint = 'Write a list of patterns, such as paths = ["secrets/**"].'
        case "bool_type":
            hint = "Write true or false, without quotes."
        case _:
            hint = f"{first['msg']}."
    return document.error(what, hint, document.line_of(key, number))


def _suggest(word: object, known: Iterable[str]) -> str:
    nearest = difflib.get_close_matches(str(word).lower(), list(known), n=1)
    return f'Did you mean "{nearest[0]}"?' if nearest else ""


def _listed(words: Iterable[str]) -> str:
    *most, last = (f'"{word}"' for word in words)
    return f"{', '.join(most)} or {last}" if most else last


def _as_toml(value: object) -> str:
    shown = f'"{value}"' if isinstance(value, str) else str(value)
    if isinstance(value, bool):
        shown = shown.lower()
    return shown if len(shown) <= 60 else f"{shown[:59]}…"
