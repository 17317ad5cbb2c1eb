"""The tasks extension (``io.modelcontextprotocol/tasks``, SEP-2663).

A task is the service's own: this layer keeps nothing that it needs, so a task outlives its
connection, this process, and whatever worker has answered before.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from datetime import datetime
from typing import Any

import mcp_types as types
from mcp import MCPError
from mcp.server.lowlevel import Server
from pydantic import ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from corral.mcp_servers.serving.callers import TASKS, Context, Door, caller_of, is_modern
from corral.mcp_servers.serving.contract import Caller, Elicited, Service, TaskState
from corral.mcp_servers.serving.rounds import elicited, forms

_POLL_MS = 1_000
_MOST_SHOWN = 10_000


class TaskParams(types.RequestParams):
    """Names a task."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)

    task_id: str


class TaskAnswers(TaskParams):
    """Answers to what a task asks, by the keys of its questions."""

    input_responses: dict[str, Any] = Field(default_factory=dict)


def created(state: TaskState) -> dict[str, Any]:
    """The answer to a call that has become a task."""
    return {"resultType": "task", **_base(state)}


def missing(**capabilities: Any) -> MCPError:
    """The error for a client without the capabilities that this needs (SEP-2575)."""
    needed = types.ClientCapabilities(**capabilities)
    data = types.MissingRequiredClientCapabilityErrorData(required_capabilities=needed)
    return MCPError(
        types.MISSING_REQUIRED_CLIENT_CAPABILITY,
        "This needs a capability that the client has not declared.",
        data.model_dump(by_alias=True, mode="json", exclude_none=True),
    )


class Shown:
    """Since when a client has the questions of tasks: a human cannot read them any sooner."""

    def __init__(self) -> None:
        self._since: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def note(self, caller: Caller, state: TaskState) -> None:
        """These questions go out now, for the first time or again."""
        for key in state.questions or {}:
            self._since.setdefault((caller.owner, state.task, key), time.time())
        while len(self._since) > _MOST_SHOWN:
            self._since.popitem(last=False)

    def seconds(self, caller: Caller, state: TaskState, key: str) -> float:
        """For how long a client has had a question.

        One that another process has shown: for how long it can have had it.
        """
        waits = datetime.fromisoformat(state.updated_at).timestamp()
        return max(0.0, time.time() - self._since.get((caller.owner, state.task, key), waits))


class Tasks:
    """The three methods of the extension, over a service."""

    def __init__(self, service: Service, door: Door) -> None:
        self._service = service
        self._door: Door = door
        self._shown = Shown()

    def register(self, server: Server[Any]) -> None:
        """Make them callable."""
        server.add_request_handler("tasks/get", TaskParams, self._get)
        server.add_request_handler("tasks/update", TaskAnswers, self._update)
        server.add_request_handler("tasks/cancel", TaskParams, self._cancel)

    async def _get(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        caller = self._admit(ctx, params)
        state = await self._service.task(caller, params.task_id)
        if state.status == "input_required":
            self._shown.note(caller, state)
        return _detailed(state)

    async def _update(self, ctx: Context, params: TaskAnswers) -> dict[str, Any]:
        caller = self._admit(ctx, params)
        state = await self._service.task(caller, params.task_id)
        answers = self._answers(caller, state, params.input_responses)
        if answers:
            await self._service.answer_task(caller, params.task_id, answers)
        return {}

    async def _cancel(self, ctx: Context, params: TaskParams) -> dict[str, Any]:
        caller = self._admit(ctx, params)
        await self._service.cancel_task(caller, params.task_id)
        return {}

    def _answers(
        self, caller: Caller, state: TaskState, given: dict[str, Any]
    ) -> dict[str, Elicited]:
        """The answers that fit a question that is open."""
        answers = {}
        for key, question in (state.questions or {}).items():
            try:
                answer = types.ElicitResult.model_validate(given.get(key))
            except ValidationError:
                continue
            seconds = self._shown.seconds(caller, state, key)
            if (found := elicited(answer, question.schema, seconds)) is not None:
                answers[key] = found
        return answers

    def _admit(self, ctx: Context, params: TaskParams) -> Caller:
        """The caller, if it speaks the extension, and says the same task in its headers."""
        if not is_modern(ctx):
            raise MCPError(types.METHOD_NOT_FOUND, "Method not found", ctx.method)
        caller = caller_of(ctx, self._door)
        if not caller.takes_tasks:
            raise missing(extensions={TASKS: {}})
        if ctx.request is not None and ctx.request.headers.get("mcp-name") != params.task_id:
            raise MCPError(types.HEADER_MISMATCH, "Mcp-Name does not name the task of the request.")
        return caller


def _base(state: TaskState) -> dict[str, Any]:
    told = {
        "taskId": state.task,
        "status": state.status,
        "createdAt": state.created_at,
        "lastUpdatedAt": state.updated_at,
        "ttlMs": None,
        "pollIntervalMs": _POLL_MS,
    }
    return told | ({"statusMessage": state.message} if state.message else {})


def _detailed(state: TaskState) -> dict[str, Any]:
    told = _base(state)
    match state.status:
        case "input_required":
            asked = forms(state.questions or {})
            told["inputRequests"] = {key: _dumped(form) for key, form in asked.items()}
        case "completed" if state.result is not None:
            told["result"] = _dumped(state.result)
            told["result"].pop("resultType", None)
        case "failed":
            told["error"] = {"code": types.INTERNAL_ERROR, "message": state.error}
        case _:
            pass
    return told


def _dumped(model: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = model.model_dump(by_alias=True, mode="json", exclude_none=True)
    return dumped
