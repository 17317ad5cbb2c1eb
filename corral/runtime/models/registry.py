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
from corral.runtime.models.hosted.endpoint import find_endpoint
from corral.runtime.models.hosted.known_models import Provider
from corral.runtime.models.hosted.model import HostedModel, HostedOptions
from corral.runtime.models.hosted.settings import HostedSettings
from corral.runtime.models.local.files.checks import check_runnable
from corral.runtime.models.local.files.gguf import GgufInfo, read_gguf
from corral.runtime.models.local.files.references import LocalReference, read_reference
from corral.runtime.models.local.model import LocalModel, LocalOptions
from corral.runtime.models.local.settings import LocalSettings
from corral.runtime.models.scripted import ScriptedModel


@dataclass(frozen=True)
class ModelOptions:
    """How models are opened; ``None`` leaves the model's own default.

    ``sampling`` holds where a request says nothing. ``base_url`` sends ``openai:NAME`` to another
    OpenAI-shaped server. ``context_window`` is in tokens, for the local model what llama.cpp
    allocates. ``environ`` is where keys are looked up, ``states`` the folder in which local models
    keep conversations to go on with later; without one they keep none on the disk.
    """

    sampling: Sampling = field(default_factory=Sampling)
    base_url: str | None = None
    context_window: int | None = None
    price: Price | None = None
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)
    local: LocalSettings = field(default_factory=LocalSettings)
    hosted: HostedSettings = field(default_factory=HostedSettings)
    states: Path | None = None


_PATHS = ("/", "./", "../", "~")
"""What begins like this is a path, of a file or of a folder with one model in it."""


def describe_models() -> list[tuple[str, str]]:
    """The forms of a model reference and what each gives, for help texts."""
    return [
        ("local", "the small bundled model, on this machine; no network, no key"),
        ("local:PATH, or PATH.gguf", "any GGUF text model, or a folder with one in it"),
        ("local:NAME", "one that you have already; corral models list shows them"),
        ("local:NAME+ADAPTER.gguf@0.5", "the same with a LoRA adapter, at half its strength"),
        ("openai:NAME", "OpenAI; needs OPENAI_API_KEY"),
        ("openai:NAME@URL", "any server that speaks like OpenAI, e.g. http://127.0.0.1:8080/v1"),
        ("anthropic:NAME", "Anthropic; needs ANTHROPIC_API_KEY"),
        ("scripted:FILE", "answers from a YAML file, for tests and demonstrations"),
        ("A | B", "the first of several that answers"),
        ("NAME", "several models as [models.NAME] of the settings combines them"),
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
        return _open_local(None, ref, options)
    if opener is not None:
        return opener(rest, ref, options)
    if ref.endswith(".gguf") or ref.startswith(_PATHS):
        return _local(ref, ref, options)
    raise _unknown(ref, options)


def _open_local(found: LocalReference | None, ref: str, options: ModelOptions) -> ChatModel:
    own = found.sampling if found else Sampling()
    local = LocalOptions(
        sampling=options.sampling.or_else(own),
        adapters=found.adapters if found else (),
        context_window=options.context_window,
        settings=options.local,
        states=options.states,
    )
    return LocalModel(found.path if found else None, options=local, name=ref)


def _local(rest: str, ref: str, options: ModelOptions) -> ChatModel:
    text = _required(rest, ref, "local:NAME")
    found = read_reference(text, options.local.model_dirs, options.environ)
    check_runnable(_read(found.path))
    return _open_local(found, ref, options)


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
        settings=options.hosted,
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


def _read(path: Path) -> GgufInfo:
    if not path.exists():
        raise NotFoundError(
            f"There is no model file {path}.",
            hint="Give the path of a GGUF file, or --model local for the bundled model.",
        )
    return read_gguf(path)


def _required(rest: str, ref: str, form: str) -> str:
    if not rest.strip():
        raise NotFoundError(f"{ref!r} names no file.", hint=f"Write it as {form}")
    return rest


def _unknown(ref: str, options: ModelOptions) -> NotFoundError:
    forms = "; ".join(form for form, _ in describe_models())
    guess = _guess(ref, options)
    meant = f"Did you mean {guess}? " if guess else ""
    return NotFoundError(
        f"There is no model {ref!r}.",
        hint=f"{meant}A model is one of: {forms}. What each is: corral models list",
    )


def _guess(ref: str, options: ModelOptions) -> str | None:
    """What the user may have meant: a form with a typo, or a name without its form."""
    if ref and _is_here(ref, options):
        return f"local:{ref}"
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


def _is_here(name: str, options: ModelOptions) -> bool:
    """Whether a model on this machine has this name."""
    try:
        read_reference(name, options.local.model_dirs, options.environ)
    except NotFoundError:
        return False
    return True
