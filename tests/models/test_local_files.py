"""A model file that is missing, cut, foreign or damaged is refused with words, not a crash."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from corral.errors import ModelError
from corral.runtime.models.local.files.gguf import read_gguf
from corral.runtime.models.local.model import LocalModel, bundled_model
from tests.models.conftest import answer, ask

Copy = Callable[..., Path]


async def _refusal(path: Path, capfd: pytest.CaptureFixture[str]) -> ModelError:
    model = LocalModel(path)
    with pytest.raises(ModelError) as error:
        await answer(model, ask("Hello"))
    await model.aclose()
    assert str(path) in error.value.message
    assert error.value.hint
    assert capfd.readouterr() == ("", "")
    return error.value


async def test_missing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "no model file" in (await _refusal(tmp_path / "no.gguf", capfd)).message


async def test_a_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert "cannot be read" in (await _refusal(tmp_path, capfd)).message


@pytest.mark.parametrize("length", [0, 10, 30, 2_000, 3_000_000])
async def test_cut(gguf_copy: Copy, length: int, capfd: pytest.CaptureFixture[str]) -> None:
    assert "incomplete" in (await _refusal(gguf_copy(length=length), capfd)).message


async def test_a_download_that_stopped_early(
    gguf_copy: Copy, capfd: pytest.CaptureFixture[str]
) -> None:
    size = bundled_model().stat().st_size
    error = await _refusal(gguf_copy(length=size - 1), capfd)
    assert f"{size - 1:,}" in error.message


@pytest.mark.parametrize(
    ("offset", "value", "word"),
    [
        (0, b"PK\x03\x04", "not a GGUF"),
        (4, struct.pack("<I", 1), "version 1"),
        (4, struct.pack(">I", 3), "version"),
        (8, struct.pack("<Q", 2**63), "damaged"),
        (16, struct.pack("<Q", 2**40), "damaged"),
        (24, struct.pack("<Q", 2**62), "damaged"),
    ],
)
async def test_foreign_or_damaged(
    gguf_copy: Copy,
    offset: int,
    value: bytes,
    word: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert word in (await _refusal(gguf_copy([(offset, value)]), capfd)).message


async def test_an_architecture_that_llama_cpp_does_not_know(
    gguf_copy: Copy, capfd: pytest.CaptureFixture[str]
) -> None:
    whole = bundled_model().read_bytes()
    key = b"general.architecture"
    at = whole.index(key) + len(key) + 4 + 8
    assert whole[at : at + 5] == b"llama"
    path = gguf_copy([(at, b"lemma")], length=len(whole))
    error = await _refusal(path, capfd)
    assert "'lemma'" in error.message


def test_the_header_is_read() -> None:
    info = read_gguf(bundled_model())
    assert (info.architecture, info.context_length) == ("llama", 8192)
    assert "im_start" in (info.chat_template or "")


def test_nothing_heavy_is_imported_before_the_first_request() -> None:
    code = (
        "import sys\n"
        "from corral.runtime.models.local.model import LocalModel\n"
        "model = LocalModel()\n"
        "assert model.context_window == 8192\n"
        "print(sorted({'llama_cpp', 'llguidance', 'numpy', 'jinja2', 'llm'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in {"[]", "['jinja2']"}
