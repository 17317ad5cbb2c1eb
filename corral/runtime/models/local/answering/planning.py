"""Turns a request into the plan of its answer; refuses what cannot be answered before any work."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage

from corral.errors import ModelError
from corral.runtime.models.contract import (
    ChoiceOutput,
    JsonOutput,
    ModelRequest,
    NamedTool,
    Output,
    Sampling,
)
from corral.runtime.models.local.answering.plan import AnswerPlan, Decision
from corral.runtime.models.local.answering.prompts.examples import KNOWN_TOOLS
from corral.runtime.models.local.answering.prompts.template import ChatPrompt, Style
from corral.runtime.models.local.answering.sampling import SamplingDefaults, chosen
from corral.runtime.models.local.constraints.grammar import Allowed, Constraint, Constraints
from corral.runtime.models.local.native.weights import Weights
from corral.tools.contract import ToolSpec

_MIN_ANSWER = 16
_LONGEST_SCHEMA = 4_000
"""Characters of a schema that a model is still shown; the constraint holds without it."""


@dataclass(frozen=True)
class Planner:
    """Plans answers of one model; ``n_ctx`` is what a conversation may have of tokens."""

    model: str
    words: Weights
    prompt: ChatPrompt
    constraints: Constraints
    n_ctx: int
    bos: str = ""
    sampling: Sampling = field(default_factory=Sampling)
    defaults: SamplingDefaults = field(default_factory=SamplingDefaults)

    def plan(self, request: ModelRequest) -> AnswerPlan:
        """The plan; raises ``ModelError`` for what is known to be impossible."""
        constraint, decision = self._constraint(request), None
        beginner, shown = self._beginner, request
        if beginner:
            decision = self._decision(request)
            shown = _simplified(request)
            constraint = self._constraint(shown)
        shown = _with_output(shown)
        style = Style(examples=beginner, reasoning=request.reasoning)
        text = self.prompt.render(shown, style)
        prompt = self._tokens(text)
        sampling = chosen(request.sampling, self.sampling, self.defaults)
        plan = AnswerPlan(
            prompt=prompt,
            n_ctx=self.n_ctx,
            max_tokens=min(sampling.max_tokens, self.n_ctx - len(prompt)),
            text=sampling.text,
            call=sampling.call,
            corrected=lambda written, problem: self._corrected(shown, style, (written, problem)),
            stops=(*sampling.stops, *self._forbidden(request)),
            constraint=constraint,
            at_once=_must_call(request) or request.output is not None,
            decision=decision,
            thoughts=self.prompt.thoughts(text),
            logprobs=sampling.logprobs,
        )
        self._check_room(plan)
        return plan

    @property
    def _beginner(self) -> bool:
        return self.defaults.beginner and not self.prompt.native_tools

    def _check_room(self, plan: AnswerPlan) -> None:
        least = plan.constraint.least_tokens if plan.constraint and plan.at_once else None
        if least is not None and least > plan.max_tokens:
            raise ModelError(
                f"The shortest answer that fits the schema has about {least} tokens; the answer "
                f"may have {plan.max_tokens}.",
                hint="Raise max_tokens, or ask for less.",
            )

    def _constraint(self, request: ModelRequest) -> Constraint | None:
        tools = _callable(request)
        output = request.output
        if _must_call(request):
            output = None
        if not tools and output is None:
            return None
        one = isinstance(request.tool_choice, NamedTool) or not request.parallel_tool_calls
        several = not one and not self._beginner  # which makes the same call again and again
        syntax = self.prompt.syntax if tools else None
        return self.constraints.get(Allowed(tools, syntax, several, output))

    def _decision(self, request: ModelRequest) -> Decision | None:
        """For a beginner who may call: the newest question alone, and the tools it can use."""
        tools = [_required_only(tool) for tool in request.tools if tool.name in KNOWN_TOOLS]
        question = request.messages[-1] if request.messages else None
        if request.tool_choice != "auto" or request.output is not None or not tools:
            return None
        if not isinstance(question, HumanMessage):
            return None
        system = [m for m in request.messages[:1] if isinstance(m, SystemMessage)]
        asked = replace(request, messages=[*system, question], tools=tools)
        return Decision(
            prompt=self._tokens(self.prompt.render(asked, Style(examples=True))),
            constraint=self.constraints.get(Allowed(tools, self.prompt.syntax, several=False)),
            threshold=self.defaults.call_threshold,
        )

    def _corrected(
        self, request: ModelRequest, style: Style, attempt: tuple[str, str]
    ) -> Sequence[int]:
        """The prompt that shows an attempt and what is wrong with it."""
        written, problem = attempt
        correction = f"That does not fit. {problem}\nWrite it again, corrected."
        messages = [*request.messages, AIMessage(written), HumanMessage(correction)]
        return self._tokens(self.prompt.render(replace(request, messages=messages), style))

    def _tokens(self, text: str) -> list[int]:
        prompt = self.words.tokenize(text, start=not (self.bos and text.startswith(self.bos)))
        if len(prompt) + _MIN_ANSWER > self.n_ctx:
            raise ModelError(
                f"The request has {len(prompt):,} tokens; the context of {self.model} "
                f"holds {self.n_ctx:,}, the answer included.",
                hint="Start a new thread, send less, or load the model with a larger context.",
            )
        return prompt

    def _forbidden(self, request: ModelRequest) -> Sequence[str]:
        """Where no call may be made, its beginning ends the answer: nobody wants to read one."""
        trigger = self.prompt.syntax.trigger
        return [trigger] if request.tool_choice == "none" and trigger else []


def _must_call(request: ModelRequest) -> bool:
    return request.tool_choice == "required" or isinstance(request.tool_choice, NamedTool)


def _callable(request: ModelRequest) -> Sequence[ToolSpec]:
    """The tools that may be called; raises ``ModelError`` if one has to be and none is there."""
    choice = request.tool_choice
    if choice == "none":
        return ()
    if isinstance(choice, NamedTool):
        named = [tool for tool in request.tools if tool.name == choice.name]
        if not named:
            raise ModelError(
                f"The request demands a call of {choice.name}, which it does not offer.",
                hint="Offer the tool, or demand another.",
            )
        return named
    if choice == "required" and not request.tools:
        raise ModelError(
            "The request demands a tool call and offers no tools.",
            hint="Offer at least one tool, or do not demand a call.",
        )
    return request.tools


def _with_output(request: ModelRequest) -> ModelRequest:
    """The request with a word about what the answer has to be, after the newest message."""
    told = _told(request.output)
    last = request.messages[-1] if request.messages else None
    if not told or _must_call(request) or not isinstance(last, HumanMessage):
        return request
    asked = HumanMessage(f"{last.text}\n\n{told}")
    return replace(request, messages=[*request.messages[:-1], asked])


def _told(output: Output | None) -> str:
    match output:
        case JsonOutput(schema):
            text = json.dumps(schema, ensure_ascii=False)
            fits = f" that fits this schema: {text}" if len(text) <= _LONGEST_SCHEMA else ""
            return f"Answer with JSON{fits}"
        case ChoiceOutput(choices):
            return f"Answer with one of: {', '.join(choices)}"
        case None:
            return ""


def _simplified(request: ModelRequest) -> ModelRequest:
    """The request as a very small model can handle it; see ``SamplingDefaults.beginner``."""
    if not _must_call(request):
        return replace(request, tools=(), tool_choice="none")
    return replace(request, tools=[_required_only(tool) for tool in request.tools])


def _required_only(tool: ToolSpec) -> ToolSpec:
    properties = tool.input_schema.get("properties")
    required = tool.input_schema.get("required")
    if not isinstance(properties, dict) or not required:
        return tool
    kept = {name: schema for name, schema in properties.items() if name in required}
    return replace(tool, input_schema={**tool.input_schema, "properties": kept})
