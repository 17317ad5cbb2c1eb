"""From what a user writes after ``--model`` to a model.

Opening is cheap: no weights are loaded, no SDK is imported and nothing is sent. What can be
checked at once is checked: that the script or the GGUF file is there and is one, and that the
key of a hosted model is set.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from corral.errors import NotFoundError
from corral.policies.prices import FREE, Price
from corral.runtime.models.contract import ChatModel, Sampling
from corral.runtime.models.endpoint import find_endpoint
from corral.runtime.models.hosted import HostedModel, HostedOptions
from corral.runtime.models.known_models import Provider
from corral.runtime.models.local import LocalModel, LocalOptions
from corral.runtime.models.local_gguf import read_gguf
from corral.runtime.models.scripted import ScriptedModel


@dataclass(frozen=True)
class ModelOptions:
    """How models are opened; ``None`` leaves the model's own default.

    ``sampling`` holds where a request says nothing. ``base_url`` sends ``openai:NAME`` to another
    OpenAI-shaped server. ``context_window`` is in tokens, for the local model what llama.cpp
    allocates. ``timeout`` is a hosted model's longest silence in seconds. ``environ`` is where
    keys are looked up. ``threads`` and ``gpu_layers`` are the local model's.
    """

    sampling: Sampling = field(default_factory=Sampling)
    base_url: str | None = None
    context_window: int | None = None
    timeout: float = 120.0
    max_retries: int = 3
    price: Price | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    threads: int | None = None
    gpu_layers: int = 0


def describe_models() -> list[tuple[str, str]]:
    """The forms of a model reference and what each gives, for help texts."""
    return [
        ("local", "the small bundled model, on this machine; no network, no key"),
        ("local:PATH, or PATH.gguf", "any GGUF text model, on this machine"),
        ("openai:NAME", "OpenAI; needs OPENAI_API_KEY"),
        ("openai:NAME@URL", "any server that speaks like OpenAI, e.g. http://127.0.0.1:8080/v1"),
        ("anthropic:NAME", "Anthropic; needs ANTHROPIC_API_KEY"),
        ("scripted:FILE", "answers from a YAML file, for tests and demonstrations"),
    ]


def open_model(ref: str, options: ModelOptions | None = None) -> ChatModel:
    """The model that ``ref`` names, in one of the forms of ``describe_models``.

    Raises ``NotFoundError`` for a form, script or file that does not exist, ``ConfigError`` for a
    script that is not one, a missing key or a URL that cannot be used, and ``ModelError`` for a
    broken GGUF file.
    """
    options = options or ModelOptions()
    ref = ref.strip()
    scheme, colon, rest = ref.partition(":")
    opener = _OPENERS.get(scheme) if colon else None
    if ref == "local":
        return _open_local(None, options)
    if opener is not None:
        return opener(rest, ref, options)
    if ref.endswith(".gguf"):
        return _open_local(Path(ref), options)
    raise _unknown(ref)


def _open_local(path: Path | None, options: ModelOptions) -> ChatModel:
    local = LocalOptions(
        sampling=options.sampling,
        context_window=options.context_window,
        threads=options.threads,
        gpu_layers=options.gpu_layers,
    )
    return LocalModel(_checked_gguf(path) if path else None, options=local)


def _local(rest: str, ref: str, options: ModelOptions) -> ChatModel:
    return _open_local(Path(_required(rest, ref, "local:PATH")), options)


def _openai(rest: str, ref: str, options: ModelOptions) -> ChatModel:
    return _hosted("openai", rest, ref, options)


def _anthropic(rest: str, ref: str, options: ModelOptions) -> ChatModel:
    return _hosted("anthropic", rest, ref, options)


def _hosted(provider: Provider, rest: str, ref: str, options: ModelOptions) -> ChatModel:
    base_url = options.base_url if provider == "openai" else None
    endpoint = find_endpoint(provider, rest, base_url, options.environ)
    hosted = HostedOptions(
        sampling=options.sampling,
        context_window=options.context_window,
        price=options.price,
        timeout=options.timeout,
        max_retries=options.max_retries,
    )
    return HostedModel.from_endpoint(endpoint, name=ref, options=hosted)


def _scripted(rest: str, ref: str, options: ModelOptions) -> ChatModel:
    path = Path(_required(rest, ref, "scripted:FILE")).expanduser()
    window = options.context_window or 128_000
    return ScriptedModel.from_file(
        path, name=ref, context_window=window, price=options.price or FREE
    )


_OPENERS: Mapping[str, Callable[[str, str, ModelOptions], ChatModel]] = {
    "local": _local,
    "openai": _openai,
    "anthropic": _anthropic,
    "scripted": _scripted,
}


def _checked_gguf(path: Path) -> Path:
    path = path.expanduser()
    if not path.is_file():
        raise NotFoundError(
            f"There is no model file {path}.",
            hint="Give the path of a GGUF file, or --model local for the bundled model.",
        )
    read_gguf(path)
    return path


def _required(rest: str, ref: str, form: str) -> str:
    if not rest.strip():
        raise NotFoundError(f"{ref!r} names no file.", hint=f"Write it as {form}")
    return rest


def _unknown(ref: str) -> NotFoundError:
    forms = "; ".join(f"{form} ({what})" for form, what in describe_models())
    guess = _guess(ref)
    meant = f"Did you mean {guess}? " if guess else ""
    return NotFoundError(f"There is no model {ref!r}.", hint=f"{meant}A model is one of: {forms}")


def _guess(ref: str) -> str | None:
    """What the user may have meant: a form with a typo, or a name without its form."""
    scheme, colon, rest = ref.partition(":")
    if close := difflib.get_close_matches(scheme.lower(), _OPENERS, n=1):
        return f"{close[0]}:{rest}" if rest else close[0] + (colon if close[0] != "local" else "")
    if ref.endswith((".yaml", ".yml")):
        return f"scripted:{ref}"
    if ref.startswith("claude"):
        return f"anthropic:{ref}"
    if ref.startswith(("gpt-", "o1", "o3", "o4", "chatgpt")):
        return f"openai:{ref}"
    return None
