"""Models that Ollama has pulled: manifests that name blobs, one of which is the GGUF file.

Layout: ``manifests/HOST/NAMESPACE/NAME/TAG`` (JSON) and ``blobs/sha256-DIGEST``. Source:
https://github.com/ollama/ollama/blob/main/docs/import.md and the ``manifest`` package there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from corral.jsontypes import Json, JsonObject
from corral.runtime.models.contract import Sampling

_HOST, _NAMESPACE = "registry.ollama.ai", "library"
_MODEL = "application/vnd.ollama.image.model"
_PARAMS = "application/vnd.ollama.image.params"
_ADAPTER = "application/vnd.ollama.image.adapter"
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_MAX_JSON = 1_000_000


@dataclass(frozen=True)
class OllamaModel:
    """``name`` with its tag, the GGUF file, and the LoRA adapters and sampling of its own."""

    name: str
    path: Path
    adapters: tuple[Path, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)


def ollama_models(root: Path) -> Iterator[OllamaModel]:
    """The models below ``root`` whose blob is there. What cannot be read is left out."""
    manifests = root / "manifests"
    for file in sorted(manifests.glob("*/*/*/*")):
        layers = _layers(file)
        paths = [_blob(root, digest) for kind, digest in layers if kind == _MODEL]
        if len(paths) != 1 or paths[0] is None:
            continue
        found = [_blob(root, digest) for kind, digest in layers if kind == _ADAPTER]
        params = next((_blob(root, digest) for kind, digest in layers if kind == _PARAMS), None)
        yield OllamaModel(
            name=_name(file.relative_to(manifests)),
            path=paths[0],
            adapters=tuple(path for path in found if path is not None),
            sampling=_sampling(_object(params)) if params else Sampling(),
        )


def _name(path: Path) -> str:
    host, namespace, name, tag = path.parts
    where = [] if host == _HOST else [host]
    where += [] if namespace == _NAMESPACE and host == _HOST else [namespace]
    return "/".join([*where, f"{name}:{tag}"])


def _layers(manifest: Path) -> list[tuple[str, str]]:
    layers = _object(manifest).get("layers")
    listed = layers if isinstance(layers, list) else []
    found = [layer for layer in listed if isinstance(layer, dict)]
    return [(str(layer.get("mediaType", "")), str(layer.get("digest", ""))) for layer in found]


def _blob(root: Path, digest: str) -> Path | None:
    found = _DIGEST.fullmatch(digest)
    path = root / "blobs" / f"sha256-{found[1]}" if found else None
    return path if path is not None and path.is_file() else None


def _object(file: Path) -> JsonObject:
    try:
        if not file.is_file() or file.stat().st_size > _MAX_JSON:
            return {}
        value = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _sampling(params: JsonObject) -> Sampling:
    """Ollama's names are ours, but for a few that have no meaning here."""
    stop = params.get("stop")
    return Sampling(
        temperature=_number(params, "temperature"),
        top_p=_number(params, "top_p"),
        top_k=_whole(params.get("top_k")),
        min_p=_number(params, "min_p"),
        repeat_penalty=_number(params, "repeat_penalty"),
        stop=tuple(map(str, stop)) if isinstance(stop, list) else (),
    )


def _number(params: Mapping[str, Json], key: str) -> float | None:
    value = params.get(key)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: Json) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
