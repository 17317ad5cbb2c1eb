"""Files that are no model to run are refused with words before llama.cpp sees them."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from corral.errors import ModelError
from corral.runtime.models.local.files.build import architectures
from corral.runtime.models.local.files.checks import check_runnable, kind_of
from corral.runtime.models.local.files.gguf import read_gguf
from corral.runtime.models.local.files.index import FileIndex
from corral.runtime.models.local.files.memory import Machine, Wanted, plan_memory
from corral.runtime.models.local.files.trial import try_loading
from corral.runtime.models.local.model import bundled_model
from tests.models.local.ggufs import write_gguf, write_lora


def test_the_architectures_of_the_build_are_known() -> None:
    assert {"llama", "qwen3", "gemma3", "mamba"} <= architectures()
    assert "clip" not in architectures()


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    assert kind_of(read_gguf(bundled_model())) == "model"
    files = {
        "adapter": write_lora(tmp_path / "a.gguf", "blk.0.attn_q.weight", 32, 32),
        "projector": write_gguf(tmp_path / "b.gguf", "clip"),
        "vocabulary": write_gguf(tmp_path / "c.gguf", tensors={}),
        "data": write_gguf(tmp_path / "d.gguf", tensors={}, tokens=0),
        "embedding": write_gguf(tmp_path / "e.gguf", "bert", {"attention.causal": False}),
    }
    assert {kind: kind_of(read_gguf(path)) for kind, path in files.items()} == {
        kind: kind for kind in files
    }
    for kind, path in files.items():
        with pytest.raises(ModelError):
            check_runnable(read_gguf(path))
        if kind == "embedding":
            check_runnable(read_gguf(path), embeds=True)


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ({"block_count": 0}, "0 layers"),
        ({"block_count": 100_000}, "100,000 layers"),
        ({"block_count": 2**40}, "layers"),
        ({"block_count": None}, "0 layers"),
        ({"context_length": 0}, "context_length"),
        ({"embedding_length": None}, "embedding_length"),
        ({"embedding_length": 2**50}, "embedding_length"),
        ({"expert_count": 100_000}, "expert_count"),
        ({"expert_used_count": 4}, "4 of 0 experts"),
        ({"tokenizer.ggml.bos_token_id": 4}, "bos_token_id = 4"),
    ],
)
def test_absurd_headers(tmp_path: Path, header: Mapping[str, Any], said: str) -> None:
    path = write_gguf(tmp_path / "x.gguf", settings=header)
    with pytest.raises(ModelError, match=said):
        check_runnable(read_gguf(path))


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(ModelError, match="not a file"):
        read_gguf(tmp_path / "pipe.gguf")


def test_a_device_is_refused() -> None:
    with pytest.raises(ModelError, match="not a file"):
        read_gguf(Path("/dev/zero"))


def test_a_later_part_names_the_first(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "m-00002-of-00002.gguf")
    with pytest.raises(ModelError, match="part 2 of a model in 2 files") as error:
        read_gguf(path)
    assert "m-00001-of-00002.gguf" in error.value.hint


def test_parts_are_read_together(tmp_path: Path) -> None:
    paths = [
        write_gguf(tmp_path / f"m-{number:05}-of-00002.gguf", tensors={name: np.ones((4, 4), "f4")})
        for number, name in ((1, "token_embd.weight"), (2, "blk.0.ffn_up.weight"))
    ]
    info = read_gguf(paths[0])
    assert info.parts == tuple(paths)
    assert set(info.tensors) == {"token_embd.weight", "blk.0.ffn_up.weight"}
    assert info.size == sum(path.stat().st_size for path in paths)
    paths[1].write_bytes(paths[1].read_bytes()[:-8])
    with pytest.raises(ModelError, match=r"00002-of-00002\.gguf is damaged"):
        read_gguf(paths[0])


@cache
def _head() -> bytes:
    """A model's whole header, as small as there is one."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return write_gguf(Path(folder) / "x.gguf").read_bytes()


@given(st.lists(st.tuples(st.integers(0, 900), st.binary(min_size=1, max_size=9)), max_size=6))
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_changed_bytes_never_do_harm(tmp_path: Path, changes: list[tuple[int, bytes]]) -> None:
    data = bytearray(_head())
    for at, value in changes:
        data[at : at + len(value)] = value
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    with suppress(ModelError):
        info = read_gguf(path)
        kind_of(info)
        plan_memory(info, Wanted(), Machine(2**34))
        check_runnable(info)


@given(st.binary(max_size=200))
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_header_is_read_or_refused(tmp_path: Path, rest: bytes) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + rest)
    with pytest.raises(ModelError):
        check_runnable(read_gguf(path))


Patched = Callable[[bytes, int], Path]


@pytest.fixture
def patched(tmp_path: Path) -> Patched:
    """The bundled model with one number of its header changed."""

    def write(key: bytes, value: int) -> Path:
        data = bytearray(bundled_model().read_bytes())
        at = data.index(key) + len(key) + 4
        data[at : at + 4] = struct.pack("<I", value)
        path = tmp_path / "patched.gguf"
        path.write_bytes(data)
        return path

    return write


def test_a_trial_tells_what_llama_cpp_says(tmp_path: Path, patched: Patched) -> None:
    index = FileIndex(tmp_path / "index.json")
    info = read_gguf(patched(b"llama.block_count", 31))
    with pytest.raises(ModelError, match=r"tensor 'blk.30.attn_norm.weight' not found"):
        try_loading(info, index)


def test_what_ends_llama_cpp_ends_only_the_trial(
    tmp_path: Path, patched: Patched, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = FileIndex(tmp_path / "index.json")
    child = tmp_path / "child.py"
    child.write_text("import os\nos.abort()\n")
    monkeypatch.setattr("corral.runtime.models.local.files.trial._CHILD", child)
    with pytest.raises(ModelError, match="broke down"):
        try_loading(read_gguf(patched(b"llama.block_count", 30)), index)


def test_a_trial_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "index.json"
    info = read_gguf(bundled_model())
    try_loading(info, FileIndex(file))
    monkeypatch.setattr("corral.runtime.models.local.files.trial._CHILD", tmp_path / "none.py")
    try_loading(info, FileIndex(file))
    file.unlink()
    with pytest.raises(ModelError):
        try_loading(info, FileIndex(file))
