"""The effects that agents make: prepare, tool and retrieval, as calls over the door.

Each builds its effect and turns the outcome into what a graph works with. What an effect is
made with (``Services``) is touched only inside ``execute``, which a replay never calls.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any, Protocol

from langchain_core.messages import BaseMessage, ToolMessage

from corral.jsontypes import JsonObject, digest
from corral.memory.labelled import labelled
from corral.memory.store import Memory
from corral.policies.provenance.labels import KEY as LABEL
from corral.policies.provenance.labels import Label
from corral.runtime.context import current_run, current_scope, perform, placed
from corral.runtime.effects import Attempt, Bound, Effect, Outcome
from corral.runtime.events import Notice
from corral.runtime.models.contract import ChatModel
from corral.runtime.models.hosted.answer import invalid_args
from corral.runtime.models.media import as_text, takes_images
from corral.runtime.previews import preview, reader
from corral.runtime.tool_effect import ToolCall, failed, in_rounds, tool_request
from corral.runtime.tool_tokens import definition_tokens
from corral.tools.contract import CallOptions, ToolResult, ToolSpec
from corral.tools.inquiry import Sample
from corral.tools.pool import Catalog
from corral.tools.router.choice import Wanted
from corral.tools.router.finding import FIND
from corral.tools.schemas import validate_args

FOUND = "found"
"""Where the artifact of a message names the tools that a search has found."""


class Tools(Protocol):
    """The tools of one agent."""

    async def catalog(self) -> Catalog:
        """All tools on offer, and what is wrong with the servers that offer none."""
        ...

    async def choose(self, specs: tuple[ToolSpec, ...], wanted: Wanted) -> list[str]:
        """The names of those tools that are offered for what is wanted."""
        ...

    async def call(self, spec: ToolSpec, args: JsonObject, options: CallOptions) -> ToolResult:
        """Make one call. Raises ``ToolServerError`` when its outcome is unknown."""
        ...


class Recall(Protocol):
    """The long-term memory, as far as a run reads it by itself."""

    async def recall(self, query: str, limit: int = 5) -> list[Memory]:
        """The facts that fit a query best."""
        ...

    async def gone(self, ids: Sequence[str]) -> list[str]:
        """Those of the facts that are not remembered any more."""
        ...


class Services(Protocol):
    """What effects are made with. All of it is opened when first used."""

    @property
    def agent_name(self) -> str:
        """The agent's name."""
        ...

    @property
    def model(self) -> ChatModel:
        """The agent's model."""
        ...

    @property
    def tools(self) -> Tools:
        """The agent's tools."""
        ...

    @property
    def memory(self) -> Recall:
        """The long-term memory."""
        ...

    @property
    def tool_timeout(self) -> float:
        """Seconds that a tool call may take."""
        ...

    @property
    def preview(self) -> int:
        """Characters of a long result that the model is shown at first."""
        ...

    @property
    def checks(self) -> tuple[Bound, ...]:
        """What looks at what goes into the agent and comes out of it."""
        ...

    def judge(self, model: str | None) -> Services:
        """What a check's judge is asked with: the named model, or the agent's own."""
        ...

    def sampling(self, wanted: Sample) -> Effect:
        """The effect of asking the agent's model for a tool server."""
        ...

    def delegation(self, spec: ToolSpec, use: ToolUse) -> Effect | None:
        """The effect of a call by which another agent gets to work; ``None`` for any other."""
        ...


_ALIKE = 0.8
"""How alike a name must be to that of a tool to be taken for a slip: see ``difflib``."""


@dataclass(frozen=True)
class ToolUse:
    """A tool call of a model's (``name``, ``args``, ``id``), to be made.

    ``message_id`` is that of the message with its result: unique in the thread, which a model's id
    for the call need not be. ``history`` is what a sub-agent sees before its task.
    """

    call: JsonObject
    message_id: str
    history: Sequence[BaseMessage] = ()

    @property
    def name(self) -> str:
        """The tool, as the model calls it."""
        return str(self.call["name"])

    @property
    def args(self) -> JsonObject:
        """The arguments, as the model gave them."""
        return dict(self.call["args"])

    @property
    def id(self) -> str:
        """The call's id in the model's message; it may be empty."""
        return str(self.call.get("id") or "")


@dataclass(frozen=True)
class Setting:
    """What a run found when it began: the tools and the model's context window.

    Of the tools those ``offered`` are shown to the model: all, or where there are many of them
    (``is_routed``) none until some are chosen, see ``offering.py``. ``tools_digest`` and
    ``definition_tokens``, what their definitions take of that window, are about them. ``images``
    says whether the model is shown those in the results of tools. ``preview`` is how many
    characters of a long result it is shown. It is 0 in runs of before there were previews: their
    results were shown whole, and remembered facts stood in the system message.

    It is an effect, so that a resume and a replay see the same tools in the same order.
    """

    tools: tuple[ToolSpec, ...]
    context_window: int
    offered: tuple[ToolSpec, ...] = ()
    tools_digest: str = ""
    definition_tokens: int = 0
    images: bool = False
    preview: int = 0

    @property
    def is_routed(self) -> bool:
        """Whether there are so many tools that some are chosen of them."""
        return self.tool(FIND.name) is not None

    def tool(self, name: str) -> ToolSpec | None:
        """The tool that a model knows by ``name``."""
        return next((spec for spec in self.tools if spec.name == name), None)


async def prepare(agent: str, model: str, services: Services) -> Setting:
    """The setting of the current run, looked up once."""
    return await current_run.get().once("prepare", lambda: _prepare(agent, model, services))


async def _prepare(agent: str, model: str, services: Services) -> Setting:
    async def execute(_attempt: Attempt) -> Outcome:
        catalog = await services.tools.catalog()
        for problem in catalog.problems:
            current_run.get().emit(Notice(problem))
        found: JsonObject = {
            "tools": [spec.to_json() for spec in catalog.tools],
            "problems": list(catalog.problems),
            "context_window": services.model.context_window,
            "preview": services.preview,
        }
        return Outcome({**found, "images": True} if takes_images(services.model) else found)

    request = {"agent": agent, "model": model}
    outcome = await perform(Effect("prepare", agent, request, execute, once="prepare"))
    specs = outcome.value["tools"]
    tools = tuple(ToolSpec.from_json(spec) for spec in specs)
    setting = Setting(
        tools=tools,
        context_window=outcome.value["context_window"],
        images=bool(outcome.value.get("images")),
        preview=int(outcome.value.get("preview", 0)),
    )
    if setting.is_routed:
        return setting
    return replace(
        setting,
        offered=tools,
        tools_digest=digest(specs)[:16],
        definition_tokens=definition_tokens(tools),
    )


@dataclass(frozen=True)
class Recalled:
    """The facts that fit what a run was asked, and which of those known before are forgotten."""

    facts: tuple[Memory, ...]
    forgotten: tuple[str, ...] = ()


async def recall_facts(
    query: Callable[[], str], limit: int, services: Services, known: Sequence[str] = ()
) -> Recalled:
    """Long-term facts that fit the query, looked up once in a run; only then it is asked for.

    A loop inside of an agent's graph has its own, as it may not be the only one. ``known`` are the
    ids of facts that the thread holds already.
    """
    scope = current_scope.get()
    name = "recall" if scope.prefix == scope.agent else f"recall-{digest(query())[:8]}"

    def find() -> Awaitable[Recalled]:
        return _recall_facts(name, {"query": query(), "limit": limit}, services, known)

    return await current_run.get().once(name, find)


async def _recall_facts(
    name: str, request: JsonObject, services: Services, known: Sequence[str]
) -> Recalled:
    async def execute(_attempt: Attempt) -> Outcome:
        memories = await services.memory.recall(request["query"], request["limit"])
        value: JsonObject = {"facts": [memory.to_json() for memory in memories]}
        if known:
            value["forgotten"] = await services.memory.gone(known)
        return Outcome(value)

    if known:
        request = {**request, "known": list(known)}
    value = (await perform(Effect("retrieval", "memory", request, execute, once=name))).value
    facts = tuple(Memory.from_json(fact) for fact in value["facts"])
    return Recalled(facts, tuple(value.get("forgotten", ())))


@dataclass(frozen=True)
class Used:
    """A tool call that was made at ``path``: the message with its result, and its whole outcome."""

    message: ToolMessage
    path: str
    value: JsonObject


async def use_tool(use: ToolUse, setting: Setting, services: Services) -> Used:
    """Make one tool call of the model's and give it the result, whatever happened.

    A wrong name or wrong arguments, a refusal, a failing tool and a dead server are results
    that the model can act on; none of them ends the run.
    """
    name, args = use.name, use.args
    spec = setting.tool(name) or reader(name)
    problem = _problem(name, spec, args, setting)
    if spec is None or problem is not None:
        request, answer = tool_request(name, args), _answer_with(problem or "")
        path, outcome = await placed(Effect("tool", name, request, answer))
    else:
        path, outcome = await _made(use, spec, services)
    value = outcome.value
    seen = preview(str(value["text"]), path, setting.preview)
    message = ToolMessage(
        content=_content(seen.text, value),
        artifact=_artifact(seen.artifact, spec, value),
        tool_call_id=use.id,
        name=name,
        status="error" if value["is_error"] else "success",
        id=use.message_id,
    )
    shown = message if setting.images else as_text(message)
    return Used(labelled(shown, Label.from_json(value.get(LABEL))), path, value)


async def _made(use: ToolUse, spec: ToolSpec, services: Services) -> tuple[str, Outcome]:
    """Make a call, or let another agent get to work by it; where it was made, and what it gave."""
    if (delegated := services.delegation(spec, use)) is not None:
        return await placed(replace(delegated, checks=services.checks))
    call = ToolCall(spec, use.args, services, use.id)
    return await in_rounds(replace(call.effect(), checks=services.checks), call)


def _artifact(
    handle: JsonObject | None, spec: ToolSpec | None, value: JsonObject
) -> JsonObject | None:
    """What goes beside the text of a result and is sent to no model."""
    structured = value.get("structured")
    if spec is None or spec.name != FIND.name or not isinstance(structured, dict):
        return handle
    return {**(handle or {}), FOUND: structured["tools"]}


def _content(text: str, value: JsonObject) -> str | list[str | dict[str, Any]]:
    """The text of a result, and its images after it; one that held a secret is empty."""
    images = [{"type": "image", **image} for image in value.get("images", ()) if image["base64"]]
    return [{"type": "text", "text": text}, *images] if images else text


def _problem(name: str, spec: ToolSpec | None, args: JsonObject, setting: Setting) -> str | None:
    if spec is None:
        if setting.is_routed:
            near = get_close_matches(name, [tool.name for tool in setting.tools], 1, _ALIKE)
            meant = f"Did you mean {near[0]}? " if near else ""
            return f"There is no tool {name!r}. {meant}Look for one with {FIND.name}."
        names = ", ".join(tool.name for tool in setting.tools) or "none"
        return f"There is no tool {name!r}. The tools are: {names}."
    return invalid_args(args) or validate_args(spec, args)


def _answer_with(text: str) -> Any:
    async def execute(_attempt: Attempt) -> Outcome:
        return failed(text)

    return execute
