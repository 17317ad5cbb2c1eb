"""Answers requests with a loaded model, one after the other, on the thread that calls it.

Imports llama.cpp, llguidance and Jinja: ``local`` imports it when a model is first used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.messages.tool import ToolCall

from corral.errors import ModelError
from corral.runtime.models.call_ids import call_id
from corral.runtime.models.contract import (
    Chunk,
    FinalChunk,
    ModelRequest,
    Sampling,
    TextChunk,
    Usage,
)
from corral.runtime.models.grammar import CallGrammar, GrammarCache
from corral.runtime.models.local_answer import Answer, AnswerPlan, Decision
from corral.runtime.models.local_gguf import GgufInfo
from corral.runtime.models.local_llama import Llama, LlamaParams
from corral.runtime.models.local_sampling import SamplingDefaults, chosen
from corral.runtime.models.local_sequence import TokenSequence
from corral.runtime.models.prompt import ChatPrompt, TemplateParts
from corral.runtime.models.prompt_examples import KNOWN_TOOLS
from corral.tools.contract import ToolSpec

_MIN_ANSWER = 16


@dataclass(frozen=True)
class EngineSettings:
    """How to load and how to sample, with nothing left open but what a request may say."""

    n_ctx: int
    n_threads: int
    gpu_layers: int
    sampling: Sampling
    defaults: SamplingDefaults
    chat_template: str | None


class LocalEngine:
    """One model, one context, one conversation at a time in its cache."""

    def __init__(self, info: GgufInfo, settings: EngineSettings) -> None:
        self._info = info
        self._settings = settings
        params = LlamaParams(settings.n_ctx, settings.n_threads, settings.gpu_layers)
        self._llama = Llama(info, params)
        self._sequence = TokenSequence(self._llama)
        self._grammars = GrammarCache(lambda: self._llama.tokenizer)
        parts = TemplateParts(
            model=info.path.name,
            source=settings.chat_template or info.chat_template,
            bos=self._llama.bos_text,
            ends=tuple(map(self._llama.token_text, self._llama.end_tokens)),
            control=self._llama.control_texts,
        )
        self._prompt = ChatPrompt(parts)
        self._bos = parts.bos

    @property
    def evaluated_tokens(self) -> int:
        """Tokens that went through the network since the model was loaded."""
        return self._sequence.evaluated

    def answer(self, request: ModelRequest, cancelled: Callable[[], bool]) -> Iterator[Chunk]:
        """Generate an answer; raises ``Cancelled`` soon after ``cancelled`` turns true."""
        plan = self._plan(request)
        answer = Answer(self._llama, self._sequence, plan, cancelled)
        for text in answer.run():
            yield TextChunk(text)
        calls: list[ToolCall] = []
        if answer.call is not None:
            call = answer.call
            calls = [ToolCall(name=call.name, args=call.args, id=call_id(request, 0))]
        yield FinalChunk(
            message=AIMessage(content=answer.text, tool_calls=calls),
            usage=Usage(input_tokens=answer.input_tokens, output_tokens=answer.output_tokens),
            stop_reason=answer.stop_reason,
        )

    def close(self) -> None:
        """Free the model."""
        self._llama.close()

    def _plan(self, request: ModelRequest) -> AnswerPlan:
        defaults, decision = self._settings.defaults, None
        beginner = defaults.beginner and not self._prompt.native_tools
        if beginner:
            decision = self._decision(request)
            request = _simplified(request)
        prompt = self._tokens(request, with_examples=beginner)
        sampling = chosen(request.sampling, self._settings.sampling, defaults)
        return AnswerPlan(
            prompt=prompt,
            max_tokens=min(sampling.max_tokens, self._llama.n_ctx - len(prompt)),
            text=sampling.text,
            call=sampling.call,
            stops=(*sampling.stops, *self._forbidden(request)),
            grammar=self._grammar(request),
            required=request.tool_choice == "required",
            decision=decision,
        )

    def _decision(self, request: ModelRequest) -> Decision | None:
        """For a beginner who may call: the newest question alone, and the tools it can use."""
        tools = [_required_only(tool) for tool in request.tools if tool.name in KNOWN_TOOLS]
        question = request.messages[-1] if request.messages else None
        grammar = self._grammar(request)  # a schema that has no grammar is an error here, too
        if grammar is None or request.tool_choice != "auto" or not tools:
            return None
        if not isinstance(question, HumanMessage):
            return None
        system = [m for m in request.messages[:1] if isinstance(m, SystemMessage)]
        asked = replace(request, messages=[*system, question], tools=tools)
        return Decision(
            prompt=self._tokens(asked, with_examples=True),
            grammar=self._grammars.get(tools, self._prompt.syntax),
            threshold=self._settings.defaults.call_threshold,
        )

    def _tokens(self, request: ModelRequest, *, with_examples: bool) -> list[int]:
        text = self._prompt.render(request, with_examples=with_examples)
        prompt = self._llama.tokenize(text, start=not (self._bos and text.startswith(self._bos)))
        n_ctx = self._llama.n_ctx
        if len(prompt) + _MIN_ANSWER > n_ctx:
            raise ModelError(
                f"The request has {len(prompt):,} tokens; the context of {self._info.path.name} "
                f"holds {n_ctx:,}, the answer included.",
                hint="Start a new thread, send less, or load the model with a larger context.",
            )
        return prompt

    def _forbidden(self, request: ModelRequest) -> Sequence[str]:
        """Where no call may be made, its beginning ends the answer: nobody wants to read one."""
        trigger = self._prompt.syntax.trigger
        return [trigger] if request.tool_choice == "none" and trigger else []

    def _grammar(self, request: ModelRequest) -> CallGrammar | None:
        if request.tools and request.tool_choice != "none":
            return self._grammars.get(request.tools, self._prompt.syntax)
        if request.tool_choice == "required":
            raise ModelError(
                "The request demands a tool call and offers no tools.",
                hint="Offer at least one tool, or do not demand a call.",
            )
        return None


def _simplified(request: ModelRequest) -> ModelRequest:
    """The request as a very small model can handle it; see ``SamplingDefaults.beginner``."""
    if request.tool_choice != "required":
        return replace(request, tools=(), tool_choice="none")
    return replace(request, tools=[_required_only(tool) for tool in request.tools])


def _required_only(tool: ToolSpec) -> ToolSpec:
    properties = tool.input_schema.get("properties")
    required = tool.input_schema.get("required")
    if not isinstance(properties, dict) or not required:
        return tool
    kept = {name: schema for name, schema in properties.items() if name in required}
    return replace(tool, input_schema={**tool.input_schema, "properties": kept})
