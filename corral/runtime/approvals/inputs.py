"""The values that a human gives to a tool server, checked against the form that it sent."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Row

from corral.errors import UsageError
from corral.jsontypes import JsonObject
from corral.tools.contract import SEPARATOR, ToolSpec

_NOTHING = "nothing was answered"


def input_values(row: Row[Any], given: JsonObject | None) -> JsonObject | None:
    """All values of a form that is accepted, suggested ones included; ``None`` of an address.

    Raises ``UsageError`` where they do not fit.
    """
    about = json.loads(row.context or "{}").get("input", {})
    if about.get("mode") == "url":
        if given:
            raise UsageError(
                "This asks whether you open an address; there are no values to give.",
                hint=f"Approve it without values, or deny it; {_NOTHING}.",
            )
        return None
    values = {**json.loads(row.args), **(given or {})}
    schema = json.loads(row.input_schema)
    fields = schema.get("properties") or {}
    if unknown := sorted(values.keys() - fields.keys()):
        raise UsageError(
            f"There is no field {unknown[0]!r} in what {row.tool} asks.",
            hint=f"The fields are: {', '.join(fields) or 'none'}; {_NOTHING}.",
        )
    from corral.tools.schemas import validate_args  # heavy: jsonschema, only for answers

    server, _, tool = row.tool.partition(SEPARATOR)
    if problem := validate_args(ToolSpec(server, tool, "", schema), values):
        _, _, wrong = problem.partition("\n")
        raise UsageError(
            f"The values do not fit what {row.tool} asks:\n{wrong}",
            hint=f"The values must fit the form; {_NOTHING}.",
        )
    return values
