"""What a model takes, and what fits, is told from its header."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from corral.runtime.models.local.files.build import Gpu
from corral.runtime.models.local.files.gguf import GgufInfo, read_gguf
from corral.runtime.models.local.files.machine import cgroup_memory
from corral.runtime.models.local.files.memory import (
    CacheShape,
    Machine,
    MemoryPlan,
    Wanted,
    cache_shape,
    context_window,
    plan_memory,
)
from corral.runtime.models.local.files.sizes import shown_bytes
from corral.runtime.models.local.model import bundled_model
from corral.runtime.models.local.settings import FlashAttention
from tests.models.local.ggufs import write_gguf

GIB = 1024**3
LLAMA_8B = {
    "block_count": 32,
    "context_length": 131_072,
    "embedding_length": 4096,
    "attention.head_count": 32,
    "attention.head_count_kv": 8,
}


def made(path: Path, arch: str = "llama", **settings: object) -> GgufInfo:
    named = {key.replace("__", "."): value for key, value in settings.items()}
    return read_gguf(write_gguf(path / "x.gguf", arch, named))


def test_the_bundled_model() -> None:
    info = read_gguf(bundled_model())
    # 30 layers of 3 heads of 64 numbers, keys and values, 2 bytes each
    assert cache_shape(info) == CacheShape(per_token=30 * 3 * 64 * 2 * 2, per_sequence=0)
    plan = plan_memory(info, Wanted(context_window=2048, cache_tokens=4096), Machine(8 * GIB))
    assert plan.weights == sum(tensor.size for tensor in info.tensors.values())
    assert plan.cache == 4096 * 23_040
    assert plan.host_bytes == plan.weights + plan.cache + plan.working
    assert (plan.gpu_layers, plan.layers) == (0, 31)


def test_shared_heads_and_own_lengths(tmp_path: Path) -> None:
    info = read_gguf(write_gguf(tmp_path / "a.gguf", settings=LLAMA_8B))
    assert cache_shape(info).per_token == 128 * 1024
    lengths = {"attention.key_length": 256, "attention.value_length": 64}
    own = read_gguf(write_gguf(tmp_path / "b.gguf", settings={**LLAMA_8B, **lengths}))
    assert cache_shape(own).per_token == 32 * 8 * (256 + 64) * 2


def test_a_hybrid_has_keys_in_some_layers_and_states_in_the_others(tmp_path: Path) -> None:
    heads = {"attention.head_count_kv": [0, 0, 4], "attention.head_count": 4, "block_count": 3}
    state = {"ssm.conv_kernel": 4, "ssm.inner_size": 64, "ssm.state_size": 16}
    info = read_gguf(write_gguf(tmp_path / "h.gguf", "jamba", {**heads, **state}))
    shape = cache_shape(info)
    assert shape.per_token == 4 * (8 + 8) * 2
    assert shape.per_sequence == 2 * (3 * 64 + 16 * 64) * 4
    assert shape.size(100, 8) == 100 * shape.per_token + 8 * shape.per_sequence


def test_a_recurrent_model_needs_nothing_for_a_token(tmp_path: Path) -> None:
    state = {"ssm.conv_kernel": 4, "ssm.inner_size": 64, "ssm.state_size": 16}
    none = {"attention.head_count": 0}
    info = read_gguf(write_gguf(tmp_path / "m.gguf", "mamba", {**none, **state}))
    assert cache_shape(info).per_token == 0
    assert cache_shape(info).per_sequence == (3 * 64 + 16 * 64) * 4
    assert context_window(info, None, GIB) == 512


def test_the_default_window_is_what_fits(tmp_path: Path) -> None:
    info = read_gguf(write_gguf(tmp_path / "a.gguf", settings=LLAMA_8B))
    assert context_window(info, None, 64 * GIB) == 32_768
    assert context_window(info, None, 16 * GIB) == 16_384
    assert context_window(info, None, GIB // 2) == 2_048
    assert context_window(info, 100_000, GIB) == 100_000


@pytest.fixture
def layered(tmp_path: Path) -> GgufInfo:
    """Four layers of 64 MiB, and 64 MiB of vocabulary."""
    big = np.zeros((4096, 4096), np.float32)
    tensors = {"token_embd.weight": big, **{f"blk.{i}.ffn_up.weight": big for i in range(4)}}
    settings = {"block_count": 4, "attention.head_count": 4, "embedding_length": 64}
    return read_gguf(write_gguf(tmp_path / "g.gguf", settings=settings, tensors=tensors))


def gpu(free: int) -> Gpu:
    return Gpu("GPU0", "A graphics card", free, 24 * GIB, shared=False)


def test_gpu_layers_are_those_that_fit(layered: GgufInfo) -> None:
    def layers(free: int, wanted: int | None = None) -> int:
        machine = Machine(8 * GIB, [gpu(free)])
        return plan_memory(layered, Wanted(gpu_layers=wanted), machine).gpu_layers

    assert layers(8 * GIB) == 5
    assert 0 < layers(512 * 1024**2 + 200 * 1024**2) < 5
    assert layers(512 * 1024**2) == 0
    assert (layers(GIB, -1), layers(GIB, 2), layers(8 * GIB, 0)) == (5, 2, 0)
    assert plan_memory(layered, Wanted(gpu_layers=-1), Machine(8 * GIB)).gpu_layers == 0


MIB = 1024**2


def test_flash_attention_is_off_on_a_cpu_unless_the_cache_is_large() -> None:
    info = read_gguf(bundled_model())

    def planned(tokens: int, flash: FlashAttention = "auto", **limits: int) -> MemoryPlan:
        asked = Wanted(2048, tokens, flash_attention=flash, **limits)
        return plan_memory(info, asked, Machine(8 * GIB))

    assert planned(4096).flash_attention == planned(32_768).flash_attention == "off"
    assert planned(33_024).flash_attention == "on"
    assert planned(65_536, "off").flash_attention == "off"
    assert planned(4096, "on").flash_attention == "on"
    # Scores of 128 tokens by 9 heads, and the mask: what llama.cpp allocates is within a few MiB.
    more = planned(16_384, "off").working - planned(16_384, "on").working
    assert more == 128 * 16_384 * (9 + 1) * 4
    assert planned(16_384, memory=planned(16_384).host_bytes).flash_attention == "off"
    assert planned(16_384, memory=planned(16_384).host_bytes - MIB).flash_attention == "on"


def test_flash_attention_on_a_gpu_is_left_to_llama_cpp(layered: GgufInfo) -> None:
    def planned(flash: FlashAttention = "auto", layers: int | None = None) -> MemoryPlan:
        asked = Wanted(gpu_layers=layers, flash_attention=flash)
        return plan_memory(layered, asked, Machine(8 * GIB, [gpu(8 * GIB)]))

    assert planned().flash_attention == "auto"
    assert planned(layers=0).flash_attention == "off"
    assert planned("off").flash_attention == "off"
    assert planned("off").gpu_bytes > planned().gpu_bytes == planned("on").gpu_bytes


def test_without_flash_attention_layers_store_as_wide_values(tmp_path: Path) -> None:
    heads = {"attention.head_count": 4, "attention.head_count_kv": [1, 4], "block_count": 2}
    info = read_gguf(write_gguf(tmp_path / "v.gguf", settings=heads))
    assert cache_shape(info).per_token == (5 * 8 + 2 * 4 * 8) * 2, "keys as they are, values as 4"


def test_what_is_on_a_gpu_is_not_taken_of_the_machine(layered: GgufInfo) -> None:
    on_gpu = plan_memory(layered, Wanted(), Machine(8 * GIB, [gpu(8 * GIB)]))
    without = plan_memory(layered, Wanted(flash_attention="on"), Machine(8 * GIB))
    assert on_gpu.gpu_bytes > 4 * 64 * 1024**2
    assert on_gpu.host_bytes + on_gpu.gpu_bytes == without.host_bytes


@pytest.mark.parametrize(
    ("line", "folder", "files"),
    [
        (
            "0::/a/b",
            "a",
            {"memory.max": "1000", "memory.current": "700", "memory.stat": "inactive_file 200"},
        ),
        (
            "4:memory:/a/b",
            "memory/a",
            {
                "memory.limit_in_bytes": "1000",
                "memory.usage_in_bytes": "700",
                "memory.stat": "total_inactive_file 200",
            },
        ),
    ],
)
def test_a_cgroup_limits_memory(
    tmp_path: Path, line: str, folder: str, files: dict[str, str]
) -> None:
    proc, place = tmp_path / "cgroup", tmp_path / folder
    proc.write_text(f"7:cpu:/x\n{line}\n")
    (place / "b").mkdir(parents=True)
    for name, text in files.items():
        (place / name).write_text(f"{text}\n")
    (found,) = cgroup_memory(proc, tmp_path)
    assert (found.limit, found.used) == (1000, 500)


def test_no_cgroups(tmp_path: Path) -> None:
    assert cgroup_memory(tmp_path / "none", tmp_path) == []
    (tmp_path / "cgroup").write_text("0::/\nnonsense\n")
    (tmp_path / "memory.max").write_text("max\n")
    assert cgroup_memory(tmp_path / "cgroup", tmp_path) == []


def test_bytes_in_words() -> None:
    assert [shown_bytes(n) for n in (0, 3 * 1024**2, 5 * GIB)] == ["0.0 MiB", "3.0 MiB", "5.0 GiB"]
