"""A standing rule as a person writes and reads it: one line of TOML."""

from __future__ import annotations

import json
import re
import tomllib

from pydantic import ValidationError

from corral.errors import UsageError
from corral.jsontypes import Json, JsonObject
from corral.policies.rules import Action, Rule

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_EXAMPLE = '{tool = "files__write_file", args = {path = "reports/**"}}'


def parse_rule(text: str) -> JsonObject:
    """The table that a text holds: an inline table, lines of TOML, or a JSON object.

    Raises ``UsageError`` that shows how a rule is written.
    """
    stripped = text.strip()
    try:
        table = _read(stripped)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(
            f"The rule is not TOML: {error}.", hint=f"Write it like this: {_EXAMPLE}"
        ) from error
    if not isinstance(table, dict) or not table:
        raise UsageError("The rule says nothing.", hint=f"Write it like this: {_EXAMPLE}")
    return table


def _read(text: str) -> Json:
    if not text.startswith("{"):
        table = tomllib.loads(text)
        listed = table.get("rules")
        return listed[0] if isinstance(listed, list) and len(listed) == len(table) == 1 else table
    try:
        value: Json = json.loads(text)
    except ValueError:
        value = tomllib.loads(f"rule = {text}")["rule"]
    return value


def rule_of(table: JsonObject, action: Action) -> Rule:
    """The rule that a table without an action describes. Raises ``UsageError``."""
    if table.get("action", action) != action:
        raise UsageError(
            f"The rule says {table['action']!r}, and the answer is {action!r}.",
            hint="Leave the action out: it is that of the answer.",
        )
    try:
        return Rule.model_validate({**table, "action": action})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        said = first["msg"].removeprefix("Value error, ")
        raise UsageError(
            f"The rule cannot be understood: {where}: {said}.",
            hint=f"Write it like this: {_EXAMPLE}; see docs/policies.md.",
        ) from error


def table_of(rule: Rule) -> JsonObject:
    """What a rule says, without its action, as a table."""
    return {
        name: value for name, value in rule.to_json().items() if name not in ("action", "reason")
    }


def as_toml(value: Json) -> str:
    """A value as TOML on one line; ``parse_rule`` reads a table's text back."""
    if isinstance(value, dict):
        pairs = (f"{_key(name)} = {as_toml(item)}" for name, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return json.dumps(value)


def _key(name: str) -> str:
    return name if _BARE.fullmatch(name) else as_toml(name)
