"""What stands after ``local:``: a model, and the LoRA adapters that it answers with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from corral.errors import NotFoundError
from corral.runtime.models.contract import Adapter, Sampling
from corral.runtime.models.local.files.catalog import resolve_model

_ADAPTER = re.compile(r"(?P<path>.+\.gguf)(?:@(?P<scale>-?\d+(?:\.\d+)?))?", re.IGNORECASE)


@dataclass(frozen=True)
class LocalReference:
    """A GGUF file, and what it is run with. ``sampling`` is what its place recommends."""

    path: Path
    adapters: tuple[Adapter, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)


def read_reference(
    text: str, folders: Sequence[Path] = (), environ: Mapping[str, str] | None = None
) -> LocalReference:
    """``NAME+ADAPTER.gguf@SCALE``: a name or path, and any number of adapters' paths.

    A scale that is left out is 1. Raises ``NotFoundError`` for what is not there.
    """
    model, adapters = _split(text)
    found = resolve_model(model, folders, environ)
    return LocalReference(
        path=found.path,
        adapters=(*found.adapters, *map(_adapter, adapters)),
        sampling=found.sampling,
    )


def _split(text: str) -> tuple[str, list[str]]:
    """The model and the adapters. A plus may be part of a name: only adapters follow one."""
    if "+" not in text or Path(text).expanduser().exists():
        return text, []
    model, *parts = text.split("+")
    adapters: list[str] = []
    while parts and _ADAPTER.fullmatch(parts[-1]):
        adapters.insert(0, parts.pop())
    return "+".join([model, *parts]), adapters


def _adapter(text: str) -> Adapter:
    found = _ADAPTER.fullmatch(text)
    assert found is not None, "only what is an adapter was split off"
    path = Path(found["path"]).expanduser()
    if not path.is_file():
        raise NotFoundError(
            f"There is no adapter {path}.",
            hint="Give the path of a LoRA adapter in the GGUF format: local:MODEL+ADAPTER.gguf@0.5",
        )
    return Adapter(str(path.absolute()), float(found["scale"] or 1.0))
