"""The facts of one model, local or hosted, as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from corral.cli.models.opening import opened
from corral.errors import ModelError
from corral.runtime.models.combined.references import alternatives
from corral.runtime.models.contract import Priced
from corral.runtime.models.local.files.build import gpus
from corral.runtime.models.local.files.checks import check_runnable, kind_of
from corral.runtime.models.local.files.machine import available_memory, total_memory
from corral.runtime.models.local.files.memory import Machine, plan_memory, wanted

if TYPE_CHECKING:
    from corral.jsontypes import JsonObject
    from corral.runtime.config import Settings
    from corral.runtime.models.local.files.gguf import GgufInfo

_ENDS = ("<|im_end|>", "<|eot_id|>", "</s>", "<|end|>", "<end_of_turn>", "<|endoftext|>")
"""What ends an answer in most templates; which of them a file has is known when it is loaded."""


def model_facts(ref: str, settings: Settings) -> JsonObject:
    """What is known of a model without asking or loading it.

    Raises ``NotFoundError``, ``ConfigError``, and ``ModelError`` for a file that is damaged.
    """
    from corral.runtime.models.local.model import LocalModel

    model = opened(ref, settings)
    if isinstance(model, LocalModel):
        info = model.info
        return {
            **_header(info),
            **_template(info),
            "sampling": model.recommended_sampling,
            **_memory(info, settings),
            "runs_here": _problem(info) or True,
        }
    price = model.price if isinstance(model, Priced) else None
    return {
        "name": model.name,
        **_members(ref, settings),
        "context_window": model.context_window,
        "price_usd_per_million": price.model_dump(exclude_defaults=True) if price else None,
    }


def _members(ref: str, settings: Settings) -> JsonObject:
    """What a model of several asks, and how; nothing of one model alone."""
    if named := settings.models.get(ref):
        return named.model_dump(mode="json", exclude_defaults=True)
    several = alternatives(ref)
    return {"fallback": list(several)} if len(several) > 1 else {}


def _header(info: GgufInfo) -> JsonObject:
    metadata = info.metadata
    return {
        "file": str(info.path),
        "files": len(info.parts),
        "size_bytes": info.size,
        "kind": kind_of(info),
        "name": metadata.get("general.name"),
        "parameters": metadata.get("general.size_label"),
        "license": metadata.get("general.license"),
        "architecture": info.architecture,
        "quantization": info.quantization,
        "layers": info.layers,
        "vocabulary": info.vocabulary,
        "trained_context": info.context_length,
    }


def _template(info: GgufInfo) -> JsonObject:
    """How it is talked to, found out by trying its template."""
    from langchain_core.messages import HumanMessage

    from corral.runtime.models.contract import ModelRequest
    from corral.runtime.models.local.answering.prompts.template import ChatPrompt, TemplateParts

    parts = TemplateParts(info.path.name, info.chat_template, bos="", ends=_ENDS, control=None)
    try:
        prompt = ChatPrompt(parts)
        thinks = prompt.thoughts(prompt.render(ModelRequest([HumanMessage("Hello")])))
    except ModelError as error:
        return {"chat_template": error.message}
    return {
        "chat_template": info.chat_template is not None,
        "tool_calls": "in its own format" if prompt.native_tools else "in Corral's format",
        "reasons": thinks is not None,
    }


def _memory(info: GgufInfo, settings: Settings) -> JsonObject:
    machine = Machine(total_memory(), gpus())
    plan = plan_memory(info, wanted(settings.local, settings.context_window), machine)
    free = available_memory()
    return {
        "context_window": plan.context_window,
        "cache_tokens": plan.cache_tokens,
        "weights_bytes": plan.weights,
        "cache_bytes": plan.cache,
        "cache_bytes_per_token": plan.per_token,
        "working_bytes": plan.working,
        "flash_attention": plan.flash_attention,
        "memory_bytes": plan.host_bytes,
        "gpu_bytes": plan.gpu_bytes,
        "gpu_layers": f"{plan.gpu_layers} of {plan.layers}",
        "gpus": [f"{gpu.description} ({gpu.name})" for gpu in machine.gpus],
        "free_bytes": free,
        "fits": plan.host_bytes <= free,
    }


def _problem(info: GgufInfo) -> str:
    try:
        check_runnable(info, embeds=True)
    except ModelError as error:
        return error.message
    return ""
