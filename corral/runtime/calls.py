"""The effects that agents make: prepare, tool and retrieval, as calls over the door.

Each builds its effect and turns the outcome into what a graph works with. What an effect is
made with (``Services``) is touched only inside ``execute``, which a replay never calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from langchain_core.messages import ToolMessage

from corral.errors import ToolServerError
from corral.jsontypes import Json, JsonObject, canonical, digest
from corral.memory.labelled import labelled
from corral.memory.store import Memory
from corral.memory.tokens import estimate_tokens
from corral.policies.provenance.labels import KEY as LABEL
from corral.policies.provenance.labels import Label
from corral.runtime.context import current_run, perform
from corral.runtime.effects import Attempt, Bound, Effect, Guard, Outcome
from corral.runtime.events import Notice
from corral.runtime.models.contract import ChatModel
from corral.runtime.models.hosted.answer import invalid_args
from corral.runtime.models.media import as_text, takes_images
from corral.tools.contract import CallOptions, ToolResult, ToolSpec
from corral.tools.pool import Catalog
from corral.tools.schemas import validate_args


class Tools(Protocol):
    """The tools of one agent."""

    async def catalog(self) -> Catalog:
        """All tools on offer, and what is wrong with the servers that offer none."""
        ...

    async def call(self, spec: ToolSpec, args: JsonObject, options: CallOptions) -> ToolResult:
        """Make one call. Raises ``ToolServerError`` when its outcome is unknown."""
        ...


class Recall(Protocol):
    """The long-term memory, as far as a run reads it by itself."""

    async def recall(self, query: str, limit: int = 5) -> list[Memory]:
        """The facts that fit a query best."""
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
    def checks(self) -> tuple[Bound, ...]:
        """What looks at what goes into the agent and comes out of it."""
        ...

    def judge(self, model: str | None) -> Services:
        """What a check's judge is asked with: the named model, or the agent's own."""
        ...

    def delegation(self, spec: ToolSpec, args: JsonObject, call_id: str) -> Effect | None:
        """The effect of a call that a sub-agent answers; ``None`` for a tool of a server."""
        ...


@dataclass(frozen=True)
class Setting:
    """What a run found when it began: the tools on offer and the model's context window.

    ``definition_tokens`` estimates what the tools' definitions take of that window, and ``images``
    says whether the model is shown those in the results of tools.

    It is an effect, so that a resume and a replay see the same tools in the same order.
    """

    tools: tuple[ToolSpec, ...]
    context_window: int
    tools_digest: str
    definition_tokens: int
    images: bool = False

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
        }
        return Outcome({**found, "images": True} if takes_images(services.model) else found)

    request = {"agent": agent, "model": model}
    outcome = await perform(Effect("prepare", agent, request, execute, once="prepare"))
    specs = outcome.value["tools"]
    tools = tuple(ToolSpec.from_json(spec) for spec in specs)
    return Setting(
        tools=tools,
        context_window=outcome.value["context_window"],
        tools_digest=digest(specs)[:16],
        definition_tokens=definition_tokens(tools),
        images=bool(outcome.value.get("images")),
    )


def definition_tokens(tools: Sequence[ToolSpec]) -> int:
    """Estimated tokens that the definitions of tools take of a request."""
    shown: list[Json] = [
        [spec.server, spec.tool, spec.description, spec.input_schema] for spec in tools
    ]
    return estimate_tokens(canonical(shown)) if tools else 0


async def recall_facts(query: Callable[[], str], limit: int, services: Services) -> list[Memory]:
    """Long-term facts that fit the query, looked up once in a run; only then it is asked for."""
    return await current_run.get().once("recall", lambda: _recall_facts(query(), limit, services))


async def _recall_facts(query: str, limit: int, services: Services) -> list[Memory]:
    async def execute(_attempt: Attempt) -> Outcome:
        memories = await services.memory.recall(query, limit)
        return Outcome({"facts": [memory.to_json() for memory in memories]})

    request = {"query": query, "limit": limit}
    outcome = await perform(Effect("retrieval", "memory", request, execute, once="recall"))
    return [Memory.from_json(fact) for fact in outcome.value["facts"]]


async def use_tool(
    call: JsonObject, setting: Setting, services: Services, *, message_id: str
) -> ToolMessage:
    """Make one tool call of the model's and give it the result, whatever happened.

    ``message_id`` is unique in the thread, which a model's id for the call need not be. A wrong
    name or wrong arguments, a refusal, a failing tool and a dead server are results
    that the model can act on; none of them ends the run.
    """
    name, args = str(call["name"]), dict(call["args"])
    spec = setting.tool(name)
    problem = _problem(name, spec, args, setting)
    if spec is None or problem is not None:
        effect = Effect("tool", name, _request(name, args), _answer_with(problem or ""))
    else:
        call_id = str(call.get("id") or "")
        effect = services.delegation(spec, args, call_id) or _tool_effect(
            spec, args, services, call_id
        )
        effect = replace(effect, checks=services.checks)
    value = (await perform(effect)).value
    message = ToolMessage(
        content=_content(value),
        tool_call_id=str(call.get("id") or ""),
        name=name,
        status="error" if value["is_error"] else "success",
        id=message_id,
    )
    shown = message if setting.images else as_text(message)
    return labelled(shown, Label.from_json(value.get(LABEL)))


def _content(value: JsonObject) -> str | list[str | dict[str, Any]]:
    """The text of a result, and its images after it; one that held a secret is empty."""
    images = [{"type": "image", **image} for image in value.get("images", ()) if image["base64"]]
    return [{"type": "text", "text": value["text"]}, *images] if images else str(value["text"])


def _problem(name: str, spec: ToolSpec | None, args: JsonObject, setting: Setting) -> str | None:
    if spec is None:
        names = ", ".join(tool.name for tool in setting.tools) or "none"
        return f"There is no tool {name!r}. The tools are: {names}."
    return invalid_args(args) or validate_args(spec, args)


def _tool_effect(spec: ToolSpec, args: JsonObject, services: Services, call_id: str) -> Effect:
    async def execute(attempt: Attempt) -> Outcome:
        options = CallOptions(attempt.key, services.tool_timeout, watch=attempt.watch)
        try:
            result = await services.tools.call(spec, args, options)
        except ToolServerError as error:
            return _error(f"{error.message}\n{error.hint}".strip())
        return Outcome(result.to_json())

    return Effect(
        kind="tool",
        name=spec.name,
        request=_request(spec.name, args),
        execute=execute,
        repeatable=spec.repeatable,
        guard=Guard(
            spec,
            args,
            refuse=_error,
            give=lambda text: Outcome(ToolResult(text).to_json()),
            edit=lambda new: _tool_effect(spec, new, services, call_id),
            call_id=call_id,
        ),
    )


def _request(name: str, args: JsonObject) -> JsonObject:
    return {"tool": name, "args": args}


def _error(text: str) -> Outcome:
    return Outcome(ToolResult(text, is_error=True).to_json())


def _answer_with(text: str) -> Any:
    async def execute(_attempt: Attempt) -> Outcome:
        return _error(text)

    return execute
