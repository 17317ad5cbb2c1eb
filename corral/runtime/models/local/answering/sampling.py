"""How a model samples when nobody says: the bundled one, and any other."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from corral.runtime.models.contract import Sampling
from corral.runtime.models.local.files.gguf import GgufInfo
from corral.runtime.models.local.native.params import SamplerParams


@dataclass(frozen=True)
class ChosenSampling:
    """All that one answer needs: the chain for text, the one for calls, and where to stop.

    ``logprobs`` is how many likeliest tokens are told at each place, ``None`` for no log
    probabilities at all.
    """

    text: SamplerParams
    call: SamplerParams
    max_tokens: int
    stops: tuple[str, ...]
    logprobs: int | None = None


@dataclass(frozen=True)
class SamplingDefaults:
    """What a request's ``Sampling`` leaves open. ``call_temperature`` is for tool calls.

    ``beginner`` is for a model too small to use tools unaided: it is shown examples, fills in
    required arguments only, and is asked first, on its own, whether the newest question needs a
    tool that it knows; it does when a call's first token has the log probability
    ``call_threshold``. See ``prompts.examples`` for what that is worth.
    """

    temperature: float = 0.7
    top_p: float = 0.95
    top_k: int = 40
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    call_temperature: float = 0.2
    max_tokens: int = 512
    seed: int = 0
    beginner: bool = False
    call_threshold: float = -3.4


BUNDLED = SamplingDefaults(
    temperature=0.2,
    top_p=0.9,
    repeat_penalty=1.05,
    call_temperature=0.0,
    beginner=True,
)
"""For SmolLM2-135M. At temperature 0 it rambles, at 0.7 it loses the thread; a repetition penalty
of 1.1 makes it misspell names."""


def defaults_for(info: GgufInfo) -> SamplingDefaults:
    """What the file's makers advise (``general.sampling.*``), or values that suit most models."""
    plain = SamplingDefaults()

    def advised(name: str, default: float) -> float:
        value = info.number(f"general.sampling.{name}")
        return default if value is None else value

    return SamplingDefaults(
        temperature=advised("temp", plain.temperature),
        top_p=advised("top_p", plain.top_p),
        top_k=int(advised("top_k", plain.top_k)),
        min_p=advised("min_p", plain.min_p),
        repeat_penalty=advised("penalty_repeat", plain.repeat_penalty),
    )


def chosen(asked: Sampling, usual: Sampling, defaults: SamplingDefaults) -> ChosenSampling:
    """What a request asked for, else what the model was opened with, else the defaults."""

    def value(name: str) -> Any:
        given = getattr(asked, name), getattr(usual, name), getattr(defaults, name, None)
        return next((one for one in given if one is not None), None)

    text = SamplerParams(
        temperature=value("temperature"),
        top_p=value("top_p"),
        top_k=value("top_k"),
        min_p=value("min_p"),
        repeat_penalty=value("repeat_penalty"),
        seed=value("seed"),
        frequency_penalty=value("frequency_penalty") or 0.0,
        presence_penalty=value("presence_penalty") or 0.0,
    )
    # What was said before must be said again in JSON: its quotes, its names, its braces.
    call = replace(text, repeat_penalty=1.0, frequency_penalty=0.0, presence_penalty=0.0)
    if asked.temperature is None and usual.temperature is None:
        call = replace(call, temperature=defaults.call_temperature)
    return ChosenSampling(
        text=text,
        call=call,
        max_tokens=value("max_tokens"),
        stops=asked.stop or usual.stop,
        logprobs=value("logprobs"),
    )
