"""What a model will take in memory, and what of it fits: told from the header, before loading.

Formulas: llama.cpp's ``llama_hparams`` (``n_embd_k_gqa``, ``n_embd_r``, ``n_embd_s``). Where a
family has its own way to need less, such as a sliding window, the larger amount is taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from corral.runtime.models.local.files.build import Gpu
from corral.runtime.models.local.files.gguf import GgufInfo
from corral.runtime.models.local.settings import FlashAttention, LocalSettings

MAX_DEFAULT_CONTEXT = 32_768
"""A window that nobody asked for is no larger: its cache takes memory from the start."""

_LEAST_CONTEXT = 2_048
_CACHE_SHARE = 8
"""A cache that nobody asked for takes at most this part of all memory: an eighth."""

_NUMBER = 2
"""Bytes of a number in the cache of keys and values (F16); a recurrent state has twice as many."""

CPU_BATCH, GPU_BATCH = 128, 512
"""Tokens of one evaluation, which is what a request that was cancelled may still cost."""

_MOST_WITHOUT_FLASH = 32_768
"""Tokens of a cache on the CPU up to which flash attention is off; see ``_flash_attention``."""

_PADDING = 256
"""llama.cpp rounds the cells of a cache up to a multiple of this."""

_GPU_RESERVE = 512 * 1024**2
"""What is left free on every GPU for the display and for llama.cpp's own buffers."""


@dataclass(frozen=True)
class CacheShape:
    """What a model keeps of what it has read, in bytes: for each token, and for each sequence."""

    per_token: int
    per_sequence: int

    def size(self, tokens: int, sequences: int) -> int:
        """The whole cache."""
        return self.per_token * tokens + self.per_sequence * sequences


@dataclass(frozen=True)
class Wanted:
    """What the user has settled; ``None`` leaves it to the plan. ``gpu_layers`` -1: all.

    ``memory`` is the most that all models may take, in bytes.
    """

    context_window: int | None = None
    cache_tokens: int | None = None
    gpu_layers: int | None = None
    parallel: int = 8
    flash_attention: FlashAttention = "auto"
    memory: int | None = None


@dataclass(frozen=True)
class Machine:
    """The memory that this process could have at most, in bytes, and the GPUs."""

    memory: int
    gpus: Sequence[Gpu] = ()


@dataclass(frozen=True)
class MemoryPlan:
    """How a model is loaded and what that takes.

    A conversation may have ``context_window`` tokens; all of them share ``cache_tokens``.
    ``weights``, ``cache`` and ``working`` are in bytes, wherever they are; ``gpu_bytes`` of them
    are on GPUs, with ``gpu_layers`` of the ``layers`` (the output counts as one).
    ``flash_attention`` "auto", with layers on GPUs, leaves it to llama.cpp.
    """

    context_window: int
    cache_tokens: int
    gpu_layers: int
    layers: int
    weights: int
    cache: int
    working: int
    gpu_bytes: int
    per_token: int
    flash_attention: FlashAttention = "on"

    @property
    def host_bytes(self) -> int:
        """What is taken of the machine's own memory."""
        return max(0, self.weights + self.cache + self.working - self.gpu_bytes)


def cache_shape(info: GgufInfo) -> CacheShape:
    """How large a model's cache is; without flash attention all layers store as wide values."""
    heads = info.counts("attention.head_count")
    stored = info.counts("attention.head_count_kv", max(heads, default=0))
    shared = info.count("attention.shared_kv_layers")
    stored = stored[: len(stored) - shared] if 0 < shared < len(stored) else stored
    head = info.count("embedding_length") // max(1, max(heads, default=1))
    key = info.count("attention.key_length", head)
    value = info.count("attention.value_length", head)
    return CacheShape(
        per_token=(sum(stored) * key + _widest(stored) * value) * _NUMBER,
        per_sequence=_state_size(info) * 2 * _NUMBER * _recurrent_layers(info, stored),
    )


def context_window(info: GgufInfo, wanted: int | None, memory: int) -> int:
    """How many tokens a request and its answer may have together.

    Where nobody says it: what the model was trained on, at most 32,768, and no more than fits.
    """
    if wanted is not None:
        return wanted
    most = min(info.context_length or _LEAST_CONTEXT, MAX_DEFAULT_CONTEXT)
    per_token = cache_shape(info).per_token
    fitting = memory // _CACHE_SHARE // per_token if per_token else most
    return max(min(most, fitting), min(most, _LEAST_CONTEXT))


def wanted(settings: LocalSettings, context_window: int | None) -> Wanted:
    """What the settings have settled."""
    return Wanted(
        context_window=context_window,
        cache_tokens=settings.cache_tokens,
        gpu_layers=None if settings.gpu_layers == "auto" else settings.gpu_layers,
        parallel=settings.parallel,
        flash_attention=settings.flash_attention,
        memory=None if settings.memory_mb is None else settings.memory_mb * 1024**2,
    )


def plan_memory(info: GgufInfo, wanted: Wanted, machine: Machine) -> MemoryPlan:
    """How to load a model on this machine. Nothing is refused here: see ``EnginePool``."""
    window = context_window(info, wanted.context_window, machine.memory)
    shape = cache_shape(info)
    tokens = _cache_tokens(wanted, window, shape, machine)
    cache = shape.size(tokens, wanted.parallel)
    asked = wanted.flash_attention
    working = _working(info) + (_scores(info, GPU_BATCH, tokens) if asked == "off" else 0)
    sizes = _Sizes(info, cache, working)
    layers = info.layers + 1
    on_gpu = _gpu_layers(wanted, layers, sizes, machine.gpus)
    flash = asked
    if on_gpu == 0:
        flash = _flash_attention(info, wanted, machine, tokens, cache)
        working = _working(info) + (_scores(info, CPU_BATCH, tokens) if flash == "off" else 0)
    return MemoryPlan(
        context_window=window,
        cache_tokens=tokens,
        gpu_layers=on_gpu,
        layers=layers,
        weights=info.weights_bytes,
        cache=cache,
        working=working,
        gpu_bytes=sizes.on_gpu(on_gpu) if machine.gpus else 0,
        per_token=shape.per_token,
        flash_attention=flash,
    )


def _flash_attention(
    info: GgufInfo, wanted: Wanted, machine: Machine, tokens: int, cache: int
) -> FlashAttention:
    """Which way of attention is the faster one on a CPU.

    llama.cpp's flash attention takes six (one token) to ten times (a short turn) as long for each
    token of the thread. Without it every cell up to the last one in use is computed, also those of
    other conversations. So off loses where a thread is less than a sixth to a tenth of what the
    cache holds, and the more the larger the cache is: with 900 tokens of 14,400 a token takes
    twice as long, with 900 of 900 two thirds, with 4,000 of 4,000 a third. Scores take room, too
    (``_scores``): where that does not fit, it is on.
    """
    if wanted.flash_attention != "auto":
        return wanted.flash_attention
    limit = min(machine.memory, wanted.memory or machine.memory)
    needs = info.weights_bytes + cache + _working(info) + _scores(info, CPU_BATCH, tokens)
    return "off" if tokens <= _MOST_WITHOUT_FLASH and needs <= limit else "on"


def _scores(info: GgufInfo, batch: int, tokens: int) -> int:
    """What attention takes without flash: a number for each token, cell and head, and the mask.

    Measured: llama.cpp's compute buffer for 128 tokens, 9 heads and 16,384 cells is 83 MiB, of
    which this says 80, for 512 tokens 331 and 320; it shares the room with the other buffers.
    """
    heads = max(info.counts("attention.head_count"), default=0)
    padded = -(-tokens // _PADDING) * _PADDING
    return min(batch, tokens) * padded * (heads + 1) * 4 if heads else 0


def _widest(stored: Sequence[int]) -> int:
    """Heads of values of all layers, where each has as many as the one that has most."""
    return max(stored, default=0) * sum(1 for heads in stored if heads)


def _recurrent_layers(info: GgufInfo, stored: Sequence[int]) -> int:
    """Layers with a state: in a hybrid those without keys, unless all layers have both."""
    return sum(1 for heads in stored if heads == 0) or info.layers


def _state_size(info: GgufInfo) -> int:
    """Numbers of one layer's recurrent state; 0 for a model that has none."""
    width = info.count("embedding_length")
    if head := info.count("wkv.head_size"):
        return width * (info.count("token_shift_count", 2) + head)
    if length := info.count("shortconv.l_cache"):
        return width * (length - 1)
    inner, state = info.count("ssm.inner_size"), info.count("ssm.state_size")
    columns = inner + 2 * info.count("ssm.group_count") * state
    return max(0, info.count("ssm.conv_kernel") - 1) * columns + state * inner


def _cache_tokens(wanted: Wanted, window: int, shape: CacheShape, machine: Machine) -> int:
    """Room for a few conversations, unless that is too large a part of the memory."""
    if wanted.cache_tokens is not None:
        return max(wanted.cache_tokens, window)
    fitting = machine.memory // (2 * _CACHE_SHARE) // max(1, shape.per_token)
    return max(window, min(2 * window, fitting))


def _working(info: GgufInfo) -> int:
    """The buffers of one evaluation: the scores of its tokens, and a few rows of each layer."""
    rows = info.vocabulary + 8 * info.count("embedding_length")
    rows += 4 * max(info.counts("feed_forward_length"), default=0)
    return GPU_BATCH * rows * 4


@dataclass(frozen=True)
class _Sizes:
    """How much of a model goes with each layer."""

    info: GgufInfo
    cache: int
    working: int

    def of_layer(self) -> int:
        """The largest layer's weights, with its part of the cache."""
        sizes: dict[str, int] = {}
        for name, tensor in self.info.tensors.items():
            if name.startswith("blk."):
                number = name.split(".", 2)[1]
                sizes[number] = sizes.get(number, 0) + tensor.size
        return max(sizes.values(), default=0) + self.cache // max(1, self.info.layers)

    def output(self) -> int:
        """What comes after the last layer; the embedding serves as output where there is none."""
        tensors = self.info.tensors
        tied = "output.weight" not in tensors
        names = ("output_norm.weight", "token_embd.weight" if tied else "output.weight")
        return sum(tensors[name].size for name in names if name in tensors)

    def on_gpu(self, layers: int) -> int:
        """What so many layers take there; the output goes with the last of them."""
        if layers == 0:
            return 0
        blocks = min(layers, self.info.layers)
        output = self.output() if layers > self.info.layers else 0
        return blocks * self.of_layer() + output + self.working


def _gpu_layers(wanted: Wanted, layers: int, sizes: _Sizes, gpus: Sequence[Gpu]) -> int:
    if not gpus:
        return 0
    if wanted.gpu_layers is not None:
        return layers if wanted.gpu_layers < 0 else min(wanted.gpu_layers, layers)
    room = sum(max(0, gpu.free - _GPU_RESERVE - sizes.working) for gpu in gpus)
    if sizes.on_gpu(layers) - sizes.working <= room:
        return layers
    return min(room // max(1, sizes.of_layer()), layers - 1)
