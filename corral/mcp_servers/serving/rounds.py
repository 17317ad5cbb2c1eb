"""Questions to a client's human in rounds: the call ends with them, and comes back with answers.

(Multi-round-trip requests, SEP-2322.) What the service needs to go on travels with the client,
sealed by the SDK's boundary: bound to the caller, the tool and its arguments, and to a time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import mcp_types as types

from corral.jsontypes import JsonObject
from corral.mcp_servers.serving.arguments import fits
from corral.mcp_servers.serving.contract import AskFirst, Elicited, Question


@dataclass(frozen=True)
class Round:
    """What came with a call: nothing in a first round."""

    answers: dict[str, Elicited] = field(default_factory=dict)
    state: str | None = None


def opened(params: types.InputResponseRequestParams) -> Round:
    """What the client brings back. Answers without the state that asked for them do not count."""
    if params.request_state is None:
        return Round()
    kept = json.loads(params.request_state)
    seconds = max(0.0, time.time() - kept["at"])
    answers = params.input_responses or {}
    schemas: dict[str, JsonObject] = kept["schemas"]
    return Round(
        {
            key: answer
            for key, schema in schemas.items()
            if (answer := elicited(answers.get(key), schema, seconds)) is not None
        },
        kept["state"],
    )


def closed(ask: AskFirst) -> types.InputRequiredResult:
    """The end of a round: the questions, and what is needed to go on."""
    schemas = {key: question.schema for key, question in ask.questions.items()}
    kept = {"state": ask.state, "at": time.time(), "schemas": schemas}
    return types.InputRequiredResult(
        input_requests=dict(forms(ask.questions)), request_state=json.dumps(kept)
    )


def forms(questions: Mapping[str, Question]) -> dict[str, types.ElicitRequest]:
    """The questions as the protocol asks them."""
    return {
        key: types.ElicitRequest(
            params=types.ElicitRequestFormParams(
                message=question.message, requested_schema=question.schema
            )
        )
        for key, question in questions.items()
    }


def elicited(answer: Any, schema: JsonObject, seconds: float) -> Elicited | None:
    """An answer of a client, checked; ``None`` where it is none or does not fit the question."""
    if not isinstance(answer, types.ElicitResult):
        return None
    if answer.action != "accept":
        return Elicited(answer.action, {}, seconds)
    content: JsonObject = dict(answer.content or {})
    return Elicited("accept", content, seconds) if fits(schema, content) else None
