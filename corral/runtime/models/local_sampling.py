"""How a model samples when nobody says: the bundled one, and any other."""

from __future__ import annotations

from dataclasses import dataclass, replace

from corral.runtime.models.contract import Sampling
from corral.runtime.models.local_gguf import GgufInfo


@dataclass(frozen=True)
class SamplerParams:
    """One chain of samplers. ``temperature`` 0 takes the likeliest token."""

    temperature: float
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repeat_penalty: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class ChosenSampling:
    """All that one answer needs: the chain for text, the one for calls, and where to stop."""

    text: SamplerParams
    call: SamplerParams
    max_tokens: int
    stops: tuple[str, ...]


@dataclass(frozen=True)
class SamplingDefaults:
    """What a request's ``Sampling`` leaves open. ``call_temperature`` is for tool calls.

    ``beginner`` is for a model too small to use tools unaided: it is shown examples, fills in
    required arguments only, and is asked first, on its own, whether the newest question needs a
    tool that it knows; it does when a call's first token has the log probability
    ``call_threshold``. See ``prompt_examples`` for what that is worth.
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
    temperature = _first(asked.temperature, usual.temperature)
    seed = _first(asked.seed, usual.seed)
    text = SamplerParams(
        temperature=defaults.temperature if temperature is None else temperature,
        top_p=_first(asked.top_p, usual.top_p, defaults.top_p) or 0.0,
        top_k=defaults.top_k,
        min_p=defaults.min_p,
        repeat_penalty=defaults.repeat_penalty,
        seed=defaults.seed if seed is None else int(seed),
    )
    call = replace(
        text,
        temperature=defaults.call_temperature if temperature is None else temperature,
        repeat_penalty=1.0,
    )
    return ChosenSampling(
        text=text,
        call=call,
        max_tokens=asked.max_tokens or usual.max_tokens or defaults.max_tokens,
        stops=asked.stop or usual.stop,
    )


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
