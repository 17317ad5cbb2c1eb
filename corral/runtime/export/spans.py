"""A run's journal as spans, by OpenTelemetry's semantic conventions for generative AI.

Source: github.com/open-telemetry/semantic-conventions-genai (status: development): client
inference, execute tool, invoke agent and search memory spans. What they have no name for stands
under ``corral.``. Ids are made from the run and the path, so the same run is the same trace however
often it is sent. Pure: nothing of OpenTelemetry is imported here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal

from corral.runtime.answer_facts import attributes_of
from corral.runtime.effects import TOOLS
from corral.runtime.entries import ENDED
from corral.runtime.export.model_names import ModelName
from corral.runtime.export.span_content import Contents
from corral.runtime.paths import Place, asked_about, places, scope
from corral.runtime.views import Approval, EffectView, RunView, Totals

_OPERATIONS = {
    "model": "chat",
    "tool": "execute_tool",
    "agent": "invoke_agent",
    "retrieval": "search_memory",
}


@dataclass(frozen=True)
class Span:
    """One span, not yet OpenTelemetry's own. Times are nanoseconds since 1970, in UTC.

    ``parent`` is the id of a span of the same trace, ``None`` for the root. ``link`` is the trace
    and the span that the run was forked from. ``error`` is the text of an error, "" when it has
    none that may be told, and ``None`` when there was no error.
    """

    name: str
    id: int
    parent: int | None
    start: int
    end: int
    kind: Literal["client", "internal"] = "internal"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None
    link: tuple[int, int] | None = None


def trace_id(run: str) -> int:
    """The id of a run's trace: 128 bits."""
    return _digest(16, "trace", run)


def root_id(run: str) -> int:
    """The id of the span of the whole run: 64 bits."""
    return _digest(8, "run", run)


def effect_id(run: str, effect: EffectView) -> int:
    """The id of an effect's span: 64 bits. A call that is made again is a span of its own.

    That of a sub-agent goes on after a pause, and what it did before hangs on it.
    """
    attempt = 1 if effect.kind == "agent" else effect.attempts
    return _digest(8, "effect", run, effect.path, str(attempt))


def _digest(size: int, *parts: str) -> int:
    found = int.from_bytes(sha256("\0".join(parts).encode()).digest()[:size], "big")
    return found or 1  # zero is no valid id


def nanoseconds(time: str) -> int:
    """A time of the database as nanoseconds since 1970."""
    moment = datetime.fromisoformat(time).astimezone(UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000


@dataclass
class SpanMaker:
    """Makes the spans of one run, effect by effect, in any order.

    ``answered`` says when questions were, by path. ``seen`` are the effects taken up so far, by
    path. Of a fork only what it did itself becomes spans: the rest is in its parent's trace, to
    which the root is linked.
    """

    run: RunView
    content: bool
    answered: Mapping[str, str | None] = field(default_factory=dict)
    seen: dict[str, EffectView] = field(default_factory=dict)
    _contents: Contents = field(default_factory=Contents)
    _calls: dict[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    def add(self, effect: EffectView) -> None:
        """Take up an entry that spans of others may refer to. Its span comes from ``of``."""
        self.seen[effect.path] = replace(effect, request=None, result=None)
        if effect.kind != "model":
            return
        if self.content:
            self._contents.add(effect)
        if levels := places(effect.path):
            self._calls[f"{scope(effect.path)}{levels[-1].step}"] = _tool_calls(effect)

    def of(self, effect: EffectView, end: int | None = None) -> Span:
        """The span of an effect that has ended, or that ``end`` (nanoseconds) says so of."""
        start = nanoseconds(effect.started_at)
        if end is None:
            end = start + round((effect.duration_ms or 0) * 10**6)
        if effect.kind == "approval" and effect.duration_ms is None:
            end = max(start, self._answered(effect) or start)
        name, attributes, kind = self._described(effect)
        problem = _problem(effect)
        if problem is not None:
            attributes["error.type"] = problem[0]
        return Span(
            name=name,
            id=effect_id(self.run.run, effect),
            parent=self._parent(effect),
            start=start,
            end=end,
            kind=kind,
            attributes={key: value for key, value in attributes.items() if value is not None},
            error=None if problem is None else problem[1] if self.content else "",
        )

    def root(self, effects: Sequence[EffectView]) -> Span:
        """The span of the whole run, from all of its effects."""
        run = self.run
        own = [effect for effect in effects if is_own(effect, run)]
        start = nanoseconds(run.started_at)
        ends = [start, *(_end(effect) for effect in own)]
        model = ModelName.of(run.model)
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.provider.name": model.provider,
            "gen_ai.agent.name": run.agent,
            "gen_ai.conversation.id": run.thread,
            "gen_ai.request.model": model.name,
            **_usage(Totals.of(own)),
            "corral.run.id": run.run,
            "corral.run.status": run.status,
            "corral.cost_usd": sum(effect.cost_usd for effect in own),
        }
        failed = run.status in ("failed", "stopped")
        if failed:
            attributes["error.type"] = run.status
        if run.parent is not None:
            attributes |= {"corral.fork.parent": run.parent, "corral.fork.at": run.fork_at}
        if self.content:
            attributes |= self._contents.exchange(run.prompt, run.output)
        return Span(
            name=f"invoke_agent {run.agent}",
            id=root_id(run.run),
            parent=None,
            start=start,
            end=nanoseconds(run.finished_at) if run.finished_at else max(ends),
            attributes=attributes,
            error=((run.error or "") if self.content else "") if failed else None,
            link=None if run.parent is None else (trace_id(run.parent), root_id(run.parent)),
        )

    def _described(
        self, effect: EffectView
    ) -> tuple[str, dict[str, Any], Literal["client", "internal"]]:
        is_choice = effect.kind == "retrieval" and effect.name == TOOLS
        operation = None if is_choice else _OPERATIONS.get(effect.kind)
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": operation,
            "gen_ai.conversation.id": self.run.thread,
            "corral.effect.kind": effect.kind,
            "corral.effect.path": effect.path,
            "corral.effect.seq": effect.seq,
            "corral.effect.attempts": effect.attempts if effect.attempts > 1 else None,
            "corral.cost_usd": effect.cost_usd or None,
        }
        match effect.kind:
            case "model":
                model = ModelName.of(effect.answered_by or effect.name)
                attributes |= _model_attributes(effect, model)
                if self.content:
                    attributes |= self._contents.of_model(effect)
                return f"chat {model.name}", attributes, "client" if model.remote else "internal"
            case "tool":
                attributes |= self._tool_attributes(effect)
                return f"execute_tool {effect.name}", attributes, "internal"
            case "agent":
                attributes["gen_ai.agent.name"] = effect.name
                if self.content:
                    attributes |= self._contents.of_agent(effect)
                return f"invoke_agent {effect.name}", attributes, "internal"
            case "retrieval" if not is_choice:
                return "search_memory", attributes, "internal"
            case "approval":
                attributes["corral.approval.kind"] = _object(effect.request).get("kind")
                attributes["corral.approval.status"] = _object(effect.result).get("status")
                attributes["gen_ai.tool.name"] = effect.name
            case "connection":
                attributes |= self._connection_attributes(effect)
                return f"connection {effect.name}", attributes, "client"
        return f"{effect.kind} {effect.name}", attributes, "internal"

    def _tool_attributes(self, effect: EffectView) -> dict[str, Any]:
        attributes: dict[str, Any] = {
            "gen_ai.tool.name": effect.name,
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": self._call_id(effect),
        }
        return attributes | (self._contents.of_tool(effect) if self.content else {})

    def _connection_attributes(self, effect: EffectView) -> dict[str, Any]:
        request, result = _object(effect.request), _object(effect.result)
        return {
            "http.request.method": request.get("method"),
            "http.response.status_code": result.get("status"),
            "server.address": request.get("host"),
            "server.port": request.get("port"),
            "network.peer.address": result.get("address"),
            "url.path": request.get("path") if self.content else None,
            "corral.connection.allowed": request.get("allowed"),
            "corral.connection.sent": result.get("sent"),
            "corral.connection.received": result.get("received"),
        }

    def _call_id(self, effect: EffectView) -> str | None:
        """The model's own id of the call, where the graph is one task a call."""
        levels = places(effect.path)
        send = _send(levels[-1]) if levels else None
        if send is None:
            return None
        calls = self._calls.get(f"{scope(effect.path)}{levels[-1].step - 1}", ())
        if send < len(calls) and calls[send].get("name") == effect.name:
            return str(calls[send].get("id"))
        return None

    def _parent(self, effect: EffectView) -> int:
        path = question_about(effect) or effect.path
        while path := scope(path).removesuffix("/"):
            above = self.seen.get(path)
            if above is not None and is_own(above, self.run):
                return effect_id(self.run.run, above)
        return root_id(self.run.run)

    def _answered(self, question: EffectView) -> int | None:
        """When a question was answered; else when its call began: until then the run waited."""
        if at := self.answered.get(question.path):
            return nanoseconds(at)
        call = self.seen.get(question_about(question) or "")
        return nanoseconds(call.started_at) if call is not None else None


def spans_of(
    run: RunView,
    effects: Sequence[EffectView],
    approvals: Sequence[Approval] = (),
    *,
    content: bool,
) -> Iterator[Span]:
    """All spans of a run: the root, and every effect of its own that has ended.

    A sub-agent that has not ended lasts until the newest end inside of it.
    """
    maker = SpanMaker(run, content, {asked.path: asked.answered_at for asked in approvals})
    for effect in effects:
        maker.add(effect)
    yield maker.root(effects)
    own = [effect for effect in effects if is_own(effect, run)]
    for effect in own:
        if has_ended(effect):
            yield maker.of(effect)
        elif effect.kind == "agent":
            inside = f"{effect.path}/"
            ends = [_end(other) for other in own if other.path.startswith(inside)]
            if ends:
                yield maker.of(effect, max(ends))


def has_ended(effect: EffectView) -> bool:
    """Whether an effect is over, so that it can be sent."""
    return effect.status in ENDED


def is_own(effect: EffectView, run: RunView) -> bool:
    """Whether the run made the effect itself, and does not share it with its parent."""
    return effect.run in ("", run.run)


def question_about(effect: EffectView) -> str | None:
    """The path of the call that an approval is about; ``None`` for what is no approval."""
    return asked_about(effect.path) if effect.kind == "approval" else None


def _end(effect: EffectView) -> int:
    return nanoseconds(effect.started_at) + round((effect.duration_ms or 0) * 10**6)


def _problem(effect: EffectView) -> tuple[str, str] | None:
    """The class of the error that an effect ended with, and its text."""
    result = _object(effect.result)
    if effect.status == "failed":
        return str(result.get("type") or "_OTHER"), str(result.get("error", ""))
    if effect.kind == "connection" and _object(effect.request).get("allowed") is False:
        return "refused", str(_object(effect.request).get("refused", ""))
    if effect.status == "cancelled":
        return "cancelled", "Nobody waited for its end."
    if result.get("is_error") is True:
        return "tool_error" if effect.kind == "tool" else "agent_error", str(result.get("text"))
    return None


def _model_attributes(effect: EffectView, model: ModelName) -> dict[str, Any]:
    request, result = _object(effect.request), _object(effect.result)
    sampling = _object(request.get("sampling"))
    reason = result.get("stop_reason")
    if effect.status != "finished":
        reason = "error"
    metadata = _object(_object(result.get("message")).get("response_metadata"))
    return {
        "gen_ai.provider.name": model.provider,
        "gen_ai.request.model": ModelName.of(effect.name).name,
        "gen_ai.request.stream": True,
        "gen_ai.request.temperature": sampling.get("temperature"),
        "gen_ai.request.top_p": sampling.get("top_p"),
        "gen_ai.request.max_tokens": sampling.get("max_tokens"),
        "gen_ai.request.seed": sampling.get("seed"),
        "gen_ai.response.model": metadata.get("model_name") or effect.answered_by or None,
        "gen_ai.response.time_to_first_chunk": _seconds(effect.first_token_ms),
        "gen_ai.response.finish_reasons": [str(reason)] if reason else None,
        **_usage(effect),
        "gen_ai.usage.cache_creation.input_tokens": effect.cache_write_tokens or None,
        "corral.tokens_per_second": effect.tokens_per_second,
        **attributes_of(effect.result),
        "server.address": model.host,
        "server.port": model.port,
    }


def _usage(of: EffectView | Totals) -> dict[str, Any]:
    return {
        "gen_ai.usage.input_tokens": of.input_tokens,
        "gen_ai.usage.output_tokens": of.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": of.cached_tokens or None,
        "gen_ai.usage.reasoning.output_tokens": of.reasoning_tokens or None,
    }


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _tool_calls(effect: EffectView) -> Sequence[Mapping[str, Any]]:
    calls = _object(_object(effect.result).get("message")).get("tool_calls")
    return [_object(call) for call in calls] if isinstance(calls, list) else ()


def _send(level: Place) -> int | None:
    number = level.task.partition("[")[2].rstrip("]")
    return int(number) if number.isdecimal() else None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
