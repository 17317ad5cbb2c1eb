"""What a model reference says of the model and of where it runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePath
from urllib.parse import urlsplit

_LOCAL, _SCRIPTED = "llama_cpp", "scripted"
_ADAPTER = re.compile(r"\+(?=[^+]*\.gguf(?:@-?[\d.]+)?(?:\+|$))")
"""Before an adapter of a local model: ``local:NAME+ADAPTER.gguf@0.5``."""


@dataclass(frozen=True)
class ModelName:
    """A model as telemetry names it: provider, the model's own name, and its server if known."""

    provider: str
    name: str
    host: str | None = None
    port: int | None = None

    @property
    def remote(self) -> bool:
        """Whether it runs in another process."""
        return self.provider not in (_LOCAL, _SCRIPTED)

    @classmethod
    def of(cls, ref: str) -> ModelName:
        """Read a reference as ``--model`` takes it. A file's folder is no part of the name."""
        return _read(ref)


@lru_cache(maxsize=256)
def _read(ref: str) -> ModelName:
    ref = ref.partition("|")[0].strip()  # of several the first, which is asked first
    scheme, colon, rest = ref.partition(":")
    if scheme == "local" or ref.endswith(".gguf"):
        model = _ADAPTER.split(rest or ref)[0]
        return ModelName(_LOCAL, PurePath(model).name or ref)
    if scheme == "scripted" or not colon:
        return ModelName(_SCRIPTED, PurePath(rest or ref).name or ref)
    name, _, url = rest.partition("@")
    host, port = _server(url)
    return ModelName(scheme, name or ref, host, port)


def _server(url: str) -> tuple[str | None, int | None]:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None, None
    usual = 80 if parts.scheme == "http" else 443
    return host, (port or usual) if host else None
