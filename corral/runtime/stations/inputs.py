"""What a tool server asks of the user, as a question of ours, and the answer as the server's."""

from __future__ import annotations

from corral.jsontypes import JsonObject
from corral.runtime.stations.questions import Answer, Question
from corral.tools.contract import ToolSpec
from corral.tools.inquiry import Inquiry, Reply


def input_question(spec: ToolSpec, inquiry: Inquiry) -> Question:
    """The question.

    Its ``args`` are the values that the server suggests, and a yes may bring others.
    """
    about: JsonObject = {
        "server": spec.server,
        "mode": inquiry.mode,
        "schema": inquiry.schema,
        "fields": list(inquiry.fields),
        "url": inquiry.url,
    }
    return Question(
        kind="input",
        tool=spec.name,
        args=_suggested(inquiry.schema),
        input_schema=inquiry.schema or {"type": "object"},
        reason=inquiry.message,
        context={"input": about},
    )


def reply_of(answer: Answer, inquiry: Inquiry) -> Reply:
    """What the server is told: a no is one, and what nobody answered is none."""
    if answer.status == "approved":
        return Reply("accept", answer.args if inquiry.mode == "form" else None)
    return Reply("cancel" if answer.by in ("timeout", "corral") else "decline")


def _suggested(schema: JsonObject) -> JsonObject:
    fields = schema.get("properties")
    given = fields.items() if isinstance(fields, dict) else ()
    return {k: v["default"] for k, v in given if isinstance(v, dict) and "default" in v}
