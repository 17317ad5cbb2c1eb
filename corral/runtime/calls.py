"""The effects that agents make: prepare, model, tool and retrieval, as calls over the door.

Each builds its effect and turns the outcome into what a graph works with. What an effect is
made with (``Services``) is touched only inside ``execute``, which a replay never calls.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from corral.errors import CheckFailed, ModelError, ToolServerError
from corral.jsontypes import Json, JsonObject, canonical, digest
from corral.memory.labelled import labelled
from corral.memory.store import Memory
from corral.memory.tokens import estimate_tokens
from corral.policies.provenance.labels import KEY as LABEL
from corral.policies.provenance.labels import PUBLIC, Label
from corral.runtime.context import current_run, perform
from corral.runtime.effects import Attempt, Bound, Effect, Guard, Outcome, Spend
from corral.runtime.events import Notice, TextDelta
from corral.runtime.messages import decode, encode, well_formed, with_own_call_ids
from corral.runtime.models.contract import (
    ChatModel,
    FinalChunk,
    ModelRequest,
    Sampling,
    TextChunk,
    ToolChoice,
)
from corral.runtime.models.hosted_answer import invalid_args
from corral.tools.contract import CallOptions, ToolResult, ToolSpec
from corral.tools.pool import Catalog
from corral.tools.schemas import validate_args

ABOUT_CHECKS = "See `corral trace` for what was refused; change the prompt or the check."


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

    ``definition_tokens`` estimates what the tools' definitions take of that window.

    It is an effect, so that a resume and a replay see the same tools in the same order.
    """

    tools: tuple[ToolSpec, ...]
    context_window: int
    tools_digest: str
    definition_tokens: int

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
        return Outcome(
            {
                "tools": [spec.to_json() for spec in catalog.tools],
                "problems": list(catalog.problems),
                "context_window": services.model.context_window,
            }
        )

    request = {"agent": agent, "model": model}
    outcome = await perform(Effect("prepare", agent, request, execute, once="prepare"))
    specs = outcome.value["tools"]
    tools = tuple(ToolSpec.from_json(spec) for spec in specs)
    return Setting(
        tools=tools,
        context_window=outcome.value["context_window"],
        tools_digest=digest(specs)[:16],
        definition_tokens=definition_tokens(tools),
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


@dataclass(frozen=True)
class Ask:
    """What a model is asked."""

    model: str
    messages: Sequence[BaseMessage]
    tools: Sequence[ToolSpec] = ()
    tools_digest: str = ""
    tool_choice: ToolChoice = "auto"
    sampling: Sampling = field(default_factory=Sampling)
    purpose: str = "answer"


async def ask_model(ask: Ask, services: Services) -> AIMessage:
    """Ask the model and stream its text to the run's listeners. Raises ``ModelError``."""
    effect = asking(ask, services)
    if ask.purpose == "answer":
        again = partial(_asking_again, ask, services)
        effect = replace(effect, checks=services.checks, again=again)
    value = (await perform(effect)).value
    if "blocked" in value:
        raise CheckFailed(value["blocked"], hint=ABOUT_CHECKS)
    message = decode(value["message"], id=value["id"])
    assert isinstance(message, AIMessage)
    return labelled(message, Label.from_json(value.get(LABEL)))


def asking(ask: Ask, services: Services) -> Effect:
    """The effect of asking a model."""

    async def execute(attempt: Attempt) -> Outcome:
        request = ModelRequest(
            messages=[*ask.messages, *map(_note, attempt.notes)],
            tools=ask.tools,
            tool_choice=ask.tool_choice,
            sampling=ask.sampling.within(attempt.max_output_tokens),
            turn=attempt.turn,
        )
        emit = current_run.get().emit
        final: FinalChunk | None = None
        async for chunk in services.model.stream(request):
            match chunk:
                case TextChunk(text):
                    if ask.purpose == "answer" and attempt.aloud:
                        emit(TextDelta(text, attempt.path))
                case FinalChunk():
                    final = chunk
        if final is None:
            raise ModelError(f"The model {ask.model} ended its answer without saying so.")
        message = final.message
        if message.tool_calls:
            used = current_run.get().call_ids.of(ask.messages)
            message = with_own_call_ids(message, used, attempt.key)
        value = {
            "id": attempt.key,
            "text": message.text,
            "message": encode(message),
            "stop_reason": final.stop_reason,
            **({"told": list(attempt.notes)} if attempt.notes else {}),
        }
        usage = final.usage
        spend = Spend(usage.input_tokens, usage.output_tokens, usage.cost_usd)
        return Outcome(well_formed(value), spend)

    request: JsonObject = {
        "model": ask.model,
        "purpose": ask.purpose,
        "tools": [spec.name for spec in ask.tools],
        "tools_digest": ask.tools_digest,
        "tool_choice": ask.tool_choice,
        "sampling": dict(vars(ask.sampling)),
    }
    return Effect(
        kind="model",
        name=ask.model,
        request=request,
        execute=execute,
        transcript=ask.messages,
        estimate=lambda: estimate_tokens(ask.messages) + definition_tokens(ask.tools),
    )


def _asking_again(ask: Ask, services: Services, refused: str, why: str) -> Effect:
    answer = [AIMessage(refused)] if refused else []
    note = _note(f"This answer was not accepted, for {why}. Answer again, so that it is.")
    return asking(replace(ask, messages=[*ask.messages, *answer, note], purpose="again"), services)


def _note(text: str) -> BaseMessage:
    # Not a system message: some providers take none but the first.
    note = HumanMessage(f"[Note from the runtime, not from the user: {text}]")
    return labelled(note, PUBLIC)


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
        content=value["text"],
        tool_call_id=str(call.get("id") or ""),
        name=name,
        status="error" if value["is_error"] else "success",
        id=message_id,
    )
    return labelled(message, Label.from_json(value.get(LABEL)))


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
