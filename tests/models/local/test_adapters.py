"""LoRA adapters: what fits is loaded once for each model, what does not is refused with words."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from langchain_core.messages import HumanMessage

import corral
from corral.errors import ModelError
from corral.runtime.config import Settings
from corral.runtime.export.model_names import ModelName
from corral.runtime.models.contract import Adapter, ModelRequest, Sampling
from corral.runtime.models.local.files.adapters import check_adapter
from corral.runtime.models.local.files.gguf import GgufInfo, read_gguf
from corral.runtime.models.local.model import LocalModel, bundled_model
from corral.runtime.models.local.pool import POOL
from corral.runtime.models.registry import ModelOptions, open_model
from corral.runtime.sections import SamplingConfig
from tests.models.conftest import ONE_THREAD, answer
from tests.models.local.ggufs import write_gguf, write_lora

TARGET = "blk.10.ffn_down.weight"
ROWS, COLUMNS = 576, 1536


@pytest.fixture
def base() -> GgufInfo:
    return read_gguf(bundled_model())


@pytest.fixture
def lora(tmp_path: Path) -> Path:
    """An adapter of the bundled model that spoils its answers."""
    return write_lora(tmp_path / "lora.gguf", TARGET, ROWS, COLUMNS)


def test_one_that_fits(base: GgufInfo, lora: Path) -> None:
    check_adapter(read_gguf(lora), base)


def test_one_for_another_model(base: GgufInfo, tmp_path: Path) -> None:
    other = write_lora(tmp_path / "a.gguf", TARGET, ROWS, COLUMNS + 32)
    with pytest.raises(ModelError, match=rf"does not fit .*{TARGET} has another shape"):
        check_adapter(read_gguf(other), base)
    other = write_lora(tmp_path / "b.gguf", "blk.99.ffn_down.weight", ROWS, COLUMNS)
    with pytest.raises(ModelError, match=r"no tensor blk.99"):
        check_adapter(read_gguf(other), base)


def test_one_for_another_architecture(base: GgufInfo, tmp_path: Path) -> None:
    settings = {"general.type": "adapter", "adapter.type": "lora"}
    pair = {f"{TARGET}.lora_{half}": np.zeros((4, 4), np.float32) for half in "ab"}
    other = write_gguf(tmp_path / "a.gguf", "qwen3", settings, pair)
    with pytest.raises(ModelError, match="architecture 'qwen3'"):
        check_adapter(read_gguf(other), base)


@pytest.mark.parametrize("half", ["a", "b"])
def test_half_a_pair(base: GgufInfo, tmp_path: Path, half: str) -> None:
    settings = {"general.type": "adapter", "adapter.type": "lora"}
    pair = {f"{TARGET}.lora_{half}": np.zeros((4, COLUMNS), np.float32)}
    with pytest.raises(ModelError, match="has no lora_"):
        check_adapter(read_gguf(write_gguf(tmp_path / "a.gguf", "llama", settings, pair)), base)


def test_a_model_is_no_adapter(base: GgufInfo) -> None:
    with pytest.raises(ModelError, match="is not a LoRA adapter"):
        check_adapter(base, base)


async def test_with_without_and_at_no_strength_on_one_loaded_model(
    repeatable_model: LocalModel, lora: Path
) -> None:
    def asked(*adapters: Adapter) -> ModelRequest:
        return ModelRequest(
            [HumanMessage("Name a colour.")],
            adapters=adapters,
            sampling=Sampling(max_tokens=5, temperature=0.0),
        )

    alone = await answer(repeatable_model, asked())
    at_once = [asked(), asked(Adapter(str(lora))), asked(Adapter(str(lora), 0.0))]
    plain, changed, off = await asyncio.gather(*(answer(repeatable_model, one) for one in at_once))
    assert plain.final.message.content == alone.final.message.content
    assert off.final.message.content == alone.final.message.content
    assert changed.final.message.content != alone.final.message.content


async def test_a_reference_names_an_adapter(lora: Path) -> None:
    ref = f"local:{bundled_model()}+{lora}@0.5"
    options = ModelOptions(context_window=512, local=ONE_THREAD)
    model = open_model(ref, options)
    assert isinstance(model, LocalModel)
    assert model.name == ref
    assert model.identity["adapters"] == [[str(lora), 0.5]]
    spoilt = open_model(ref.replace("@0.5", "@9"), options)
    assert isinstance(spoilt, LocalModel)
    request = ModelRequest([HumanMessage("Hi.")], sampling=Sampling(max_tokens=4, temperature=0.0))
    plain = replace(request, adapters=(Adapter(str(lora), 0.0),))
    changed, without = await answer(spoilt, request), await answer(spoilt, plain)
    assert changed.final.message.content != without.final.message.content
    await spoilt.aclose()


@pytest.mark.slow
async def test_agents_with_and_without_an_adapter_share_one_loaded_model(
    lora: Path, settings: Settings
) -> None:
    def agent(model: str) -> corral.Agent:
        return corral.Agent(model=model, servers=(), facts=0)

    sampling = SamplingConfig(temperature=0.0, max_tokens=4)
    update = {"context_window": 512, "local": ONE_THREAD, "sampling": sampling}
    small = settings.model_copy(update=update)
    plain, spoilt = f"local:{bundled_model()}", f"local:{bundled_model()}+{lora}@9"
    async with corral.open(small) as c:
        loaded = POOL.memory_bytes
        alone = await c.run("Hi.", corral.RunOptions(agent=agent(plain)))
        one = POOL.memory_bytes
        runs = [c.run("Hi.", corral.RunOptions(agent=agent(ref))) for ref in (plain, spoilt)]
        without, changed = await asyncio.gather(*runs)
        assert POOL.memory_bytes == one > loaded
    assert {alone.status, without.status, changed.status} == {"completed"}
    assert without.output == alone.output != changed.output


@pytest.mark.parametrize("ref", ["local:tiny+/a/b.gguf@0.5", "local:tiny+b.gguf+/a/c.gguf"])
def test_an_export_names_the_model_and_not_the_adapter(ref: str) -> None:
    assert ModelName.of(ref) == ModelName("llama_cpp", "tiny")


async def test_a_bad_file_fails_its_request_alone(
    local_model: LocalModel, tmp_path: Path, lora: Path
) -> None:
    cut, foreign = tmp_path / "cut.gguf", tmp_path / "foreign.gguf"
    cut.write_bytes(lora.read_bytes()[:-100])
    foreign.write_bytes(b"PK\x03\x04" + bytes(100))
    request = ModelRequest([HumanMessage("Hello")], sampling=Sampling(max_tokens=2))
    for path in (cut, foreign, tmp_path / "missing.gguf"):
        with pytest.raises(ModelError, match=rf"{path.name}"):
            await answer(local_model, replace(request, adapters=(Adapter(str(path)),)))
    assert (await answer(local_model, request)).final.usage.output_tokens > 0
