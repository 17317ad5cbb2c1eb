"""Opens models that turn texts into vectors: GGUF files on this machine, and OpenAI-shaped servers.

Opening is cheap, as for models that answer: nothing is loaded, imported or sent.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from corral.errors import ModelError, NotFoundError
from corral.runtime.models.contract import EmbeddingModel
from corral.runtime.models.hosted.endpoint import Endpoint, find_endpoint
from corral.runtime.models.hosted.errors import explain
from corral.runtime.models.local.files.build import gpus
from corral.runtime.models.local.files.checks import check_runnable, kind_of
from corral.runtime.models.local.files.gguf import GgufInfo, read_gguf
from corral.runtime.models.local.files.references import read_reference
from corral.runtime.models.local.files.trial import try_loading
from corral.runtime.models.local.model import bundled_model
from corral.runtime.models.local.pool import POOL, EngineSpec, Handle, Tell
from corral.runtime.models.local.settings import LocalSettings
from corral.runtime.models.registry import ModelOptions

if TYPE_CHECKING:
    from corral.runtime.models.local.embedder import Embedder

_MEBIBYTE = 1024**2
_TEXTS_AT_ONCE = 128


class LocalEmbedding:
    """An ``EmbeddingModel`` that runs a GGUF file in this process."""

    def __init__(self, path: Path, *, name: str, settings: LocalSettings | None = None) -> None:
        self._path = path
        self._name = name
        self._settings = settings or LocalSettings()

    @property
    def name(self) -> str:
        """What the user wrote to get it."""
        return self._name

    @property
    def dimensions(self) -> int:
        """How long the vectors are. Reads the file's header: raises ``ModelError``."""
        return self._info.count("embedding_length_out") or self._info.count("embedding_length")

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """See ``EmbeddingModel.embed``. The first call loads the model."""
        async with self._handle.lease() as lease:
            embedder = await lease.ready()
            return await asyncio.to_thread(embedder.embed, texts)

    async def aclose(self) -> None:
        """Free the model, if nobody else uses it. Safe to call twice."""
        await self._handle.aclose()

    @cached_property
    def _info(self) -> GgufInfo:
        return read_gguf(self._path)

    @cached_property
    def _handle(self) -> Handle[Embedder]:
        settings = self._settings
        return POOL.open(
            EngineSpec(
                key=("embeddings", self._path.resolve(), settings.threads),
                name=self._name,
                needs=self._info.weights_bytes,
                load=self._load,
                limit=settings.memory_mb and settings.memory_mb * _MEBIBYTE,
                beyond_memory=settings.beyond_memory,
            )
        )

    def _load(self, _tell: Tell) -> Embedder:
        check_runnable(self._info, embeds=True)
        try_loading(self._info)
        # Keeps llama.cpp and numpy out of start-up.
        from corral.runtime.models.local.embedder import Embedder  # see above

        on_gpu = kind_of(self._info) == "embedding" and gpus()
        threads = self._settings.threads or len(os.sched_getaffinity(0))
        return Embedder(self._info, threads=threads, gpu_layers=-1 if on_gpu else 0)


class HostedEmbedding:
    """An ``EmbeddingModel`` at OpenAI, or at a server that speaks like it."""

    def __init__(self, endpoint: Endpoint, *, name: str, options: ModelOptions) -> None:
        self._endpoint = endpoint
        self._name = name
        self._hosted = options.hosted
        self._dimensions: int | None = None

    @property
    def name(self) -> str:
        """What the user wrote to get it."""
        return self._name

    @property
    def dimensions(self) -> int | None:
        """How long the vectors are, once there was one."""
        return self._dimensions

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        """See ``EmbeddingModel.embed``. Texts are sent in groups of 128."""
        found: list[list[float]] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):
            found += await self._asked(list(texts[start : start + _TEXTS_AT_ONCE]))
        if found:
            self._dimensions = len(found[0])
        return found

    async def aclose(self) -> None:
        """Nothing is held between calls."""

    async def _asked(self, texts: list[str]) -> list[list[float]]:
        import openai  # a second of import, and only where embeddings are hosted

        # Redirects are not followed: the key would go along.
        http = openai.DefaultAsyncHttpxClient(
            timeout=self._hosted.timeout, follow_redirects=False, proxy=self._endpoint.proxy
        )
        client = openai.AsyncOpenAI(
            api_key=self._endpoint.key or "none",
            base_url=self._endpoint.base_url,
            timeout=self._hosted.timeout,
            max_retries=self._hosted.max_retries,
            http_client=http,
        )
        async with client:
            try:
                answer = await client.embeddings.create(
                    model=self._endpoint.model, input=texts, encoding_format="float"
                )
                rows = sorted(answer.data, key=lambda row: row.index)
                vectors = [_normal(row.embedding) for row in rows]
            except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:
                raise explain(error, self._name, self._endpoint) from error
        if len(vectors) != len(texts) or len({len(vector) for vector in vectors}) > 1:
            raise ModelError(
                f"{self._name} gave {len(vectors)} embeddings for {len(texts)} texts.",
                hint="Check that the address is that of an embedding model.",
            )
        return vectors


def open_embedding(ref: str, options: ModelOptions | None = None) -> EmbeddingModel:
    """The embedding model of ``local``, ``local:NAME``, ``openai:NAME`` or ``openai:NAME@URL``.

    Raises ``NotFoundError``, ``ConfigError`` for a missing key, ``ModelError`` for a broken file.
    """
    options = options or ModelOptions()
    scheme, _, rest = ref.strip().partition(":")
    if scheme == "openai":
        endpoint = find_endpoint("openai", rest, options.base_url, options.environ)
        return HostedEmbedding(endpoint, name=ref, options=options)
    if ref == "local":
        return LocalEmbedding(bundled_model(), name=ref, settings=options.local)
    if scheme == "local" or ref.endswith(".gguf"):
        text = rest if scheme == "local" else ref
        path = read_reference(text, options.local.model_dirs, options.environ).path
        check_runnable(read_gguf(path), embeds=True)
        return LocalEmbedding(path, name=ref, settings=options.local)
    raise NotFoundError(
        f"There is no embedding model {ref!r}.",
        hint="Write local, local:NAME (a GGUF model), openai:NAME, or openai:NAME@URL.",
    )


def _normal(vector: Sequence[float]) -> list[float]:
    length = math.sqrt(math.fsum(number * number for number in vector))
    return [number / length for number in vector] if length else list(map(float, vector))
