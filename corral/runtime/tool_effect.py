"""A call of a tool as an effect, and the rounds that a call takes whose server asks for more.

A round is an effect of its own: what the server asked and the state that it wants back are in the
journal before the user is asked. So an answer may come in another process, days later, and a replay
needs no server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from corral.errors import ToolServerError
from corral.jsontypes import JsonObject
from corral.runtime.context import placed
from corral.runtime.desk import CallDesk
from corral.runtime.effects import Attempt, Continued, Effect, Guard, Outcome
from corral.tools.contract import CallOptions, ToolResult, ToolSpec
from corral.tools.inquiry import Answers, Reply, Round, Sample

MAX_ROUNDS = 10
"""How often a server may ask in one call."""


class ToolCalls(Protocol):
    """Makes calls."""

    async def call(self, spec: ToolSpec, args: JsonObject, options: CallOptions) -> ToolResult:
        """Make one call. Raises ``ToolServerError`` when its outcome is unknown."""
        ...


class Caller(Protocol):
    """What a call is made with. It is touched only when the call is really made."""

    @property
    def tools(self) -> ToolCalls:
        """The agent's tools."""
        ...

    @property
    def tool_timeout(self) -> float:
        """Seconds that a tool call may take."""
        ...

    def sampling(self, wanted: Sample) -> Effect:
        """The effect of asking the agent's model for a server."""
        ...


@dataclass(frozen=True)
class ToolCall:
    """A call to be made; ``id`` is the one that it has in the model's message.

    ``answers`` are those to what its server has asked before.
    """

    spec: ToolSpec
    args: JsonObject
    caller: Caller
    id: str = ""
    answers: Answers | None = None

    def effect(self) -> Effect:
        """The effect of making it."""
        return Effect(
            kind="tool",
            name=self.spec.name,
            request=self._request(),
            execute=self._execute,
            repeatable=self.spec.repeatable,
            guard=Guard(
                self.spec,
                self.args,
                refuse=failed,
                give=lambda text: Outcome(ToolResult(text).to_json()),
                edit=lambda new: replace(self, args=new).effect(),
                call_id=self.id,
            ),
        )

    def next_round(self, asked: Round) -> Effect:
        """The effect of asking the user what a round asks, and making the call again."""

        def answered(replies: Mapping[str, Reply]) -> Effect:
            return replace(self, answers=Answers(asked, replies)).effect()

        effect = self.effect()
        assert effect.guard is not None
        return replace(
            effect,
            request={**effect.request, "asked": _asked(asked)},
            guard=replace(effect.guard, continued=Continued(asked, answered)),
        )

    def _request(self) -> JsonObject:
        request = tool_request(self.spec.name, self.args)
        if self.answers is None:
            return request
        replies = {key: vars(reply) for key, reply in self.answers.replies.items()}
        return {**request, "asked": _asked(self.answers.round), "answers": replies}

    async def _execute(self, attempt: Attempt) -> Outcome:
        desk = CallDesk(attempt, self.spec, self.caller.sampling)
        options = CallOptions(
            attempt.key,
            self.caller.tool_timeout,
            watch=attempt.watch,
            desk=desk,
            answers=self.answers,
        )
        try:
            result = await self.caller.tools.call(self.spec, self.args, options)
        except ToolServerError as error:
            return failed(f"{error.message}\n{error.hint}".strip())
        desk.check_stopped()
        value = desk.noted(result).to_json()
        if result.asks is None:
            return Outcome(value)
        # As it was made: a human may have edited the arguments.
        return Outcome({**value, "asks": [{**value["asks"][0], "args": self.args}]})


async def in_rounds(effect: Effect, call: ToolCall) -> tuple[str, Outcome]:
    """Make a call, and again with the user's answers for as long as its server asks for some.

    The path and the outcome are those of the last round.
    """
    path, outcome = await placed(effect)
    for _ in range(MAX_ROUNDS):
        asks = outcome.value.get("asks")
        if not asks:
            return path, outcome
        made = replace(call, args=dict(asks[0]["args"]))
        follows = made.next_round(Round.from_json(asks[0]))
        path, outcome = await placed(replace(follows, checks=effect.checks))
    if not outcome.value.get("asks"):
        return path, outcome
    return path, failed(f"{call.spec.server} asked {MAX_ROUNDS} times for more, and was left.")


def tool_request(name: str, args: JsonObject) -> JsonObject:
    """What identifies a call."""
    return {"tool": name, "args": args}


def failed(text: str) -> Outcome:
    """The outcome of a call that failed, or was not made."""
    return Outcome(ToolResult(text, is_error=True).to_json())


def _asked(asked: Round) -> list[str]:
    return [inquiry.message for _, inquiry in asked.questions]
