"""``corral models``: what there is, what it needs, how fast it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.place import Place, Result
from tests.models.local.ggufs import write_gguf, write_lora


@pytest.fixture
def models(place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of models that the settings name, and no other on this machine."""
    empty = tmp_path / "empty"
    for variable in ("HOME", "XDG_CACHE_HOME", "HF_HUB_CACHE", "OLLAMA_MODELS", "LLAMA_CACHE"):
        monkeypatch.setenv(variable, str(empty / variable))
    folder = tmp_path / "models"
    monkeypatch.setenv("CORRAL_LOCAL", f'{{"model_dirs": ["{folder}"]}}')
    write_gguf(folder / "maker" / "tiny-Q4_K_M.gguf", "llama")
    write_gguf(folder / "new.gguf", "llama99")
    write_gguf(folder / "reader.gguf", "bert", {"attention.causal": False})
    write_lora(folder / "lora.gguf", "blk.0.attn_q.weight", 32, 32)
    return folder


def refs(result: Result) -> list[str]:
    return [line["ref"] for line in result.lines]


def test_the_list(place: Place, models: Path) -> None:
    result = place.corral("models", "list", "--json")
    assert result.code == 0
    assert refs(result)[:4] == ["local", "local:tiny-Q4_K_M", "local:new", "local:reader"]
    assert "openai:NAME@URL" in refs(result)
    bundled, tiny, new, reader = result.lines[:4]
    assert bundled["place"] == "bundled"
    assert (tiny["architecture"], tiny["context_length"], tiny["problem"]) == ("llama", 512, "")
    assert tiny["path"] == str(models / "maker" / "tiny-Q4_K_M.gguf")
    assert "'llama99'" in new["problem"]
    assert reader["kind"] == "embedding"


def test_the_table(place: Place, models: Path) -> None:
    deep = models.joinpath(*["a folder with a long name"] * 6)
    write_gguf(deep / "deep.gguf", "llama98")
    shown = place.corral("models", "list").out
    for text in ("local:tiny-Q4_K_M", "bundled", "embeddings", "does not know", "anthropic:NAME"):
        assert text in shown
    (broken,) = [line for line in shown.splitlines() if line.startswith("local:deep: ")]
    assert "'llama98'" in broken, "what is broken is said in a line of its own, however long"


def test_a_folder_and_a_bare_name(place: Place, models: Path) -> None:
    (facts,) = place.corral("models", "info", str(models / "maker"), "--json").lines
    assert facts["file"] == str(models / "maker" / "tiny-Q4_K_M.gguf")
    assert "Did you mean local:tiny?" in place.corral("models", "info", "tiny").err
    assert "No model is named." in place.corral("models", "info", "").err


def test_a_listed_name_is_one_to_ask(place: Place, models: Path) -> None:
    result = place.corral("models", "info", "local:tiny", "--json")
    (facts,) = result.lines
    assert facts["file"] == str(models / "maker" / "tiny-Q4_K_M.gguf")
    assert place.corral("run", "--model", "local:tinny", "Hello").code == 2


def test_info_of_the_bundled_model(place: Place) -> None:
    (facts,) = place.corral("models", "info", "--json").lines
    assert (facts["architecture"], facts["quantization"]) == ("llama", "Q4_1")
    assert (facts["layers"], facts["vocabulary"], facts["runs_here"]) == (30, 49_152, True)
    assert facts["cache_bytes"] == facts["cache_tokens"] * facts["cache_bytes_per_token"]
    assert facts["memory_bytes"] > facts["weights_bytes"] + facts["cache_bytes"]
    assert facts["tool_calls"] == "in Corral's format"
    assert facts["sampling"]["temperature"] == 0.2
    shown = place.corral("models", "info").out
    assert "8,192" in shown
    assert "temperature 0.2" in shown
    assert ("gpu layers" in shown) == bool(facts["gpus"])


def test_info_of_several_models_under_one_name(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = place.model("hello"), place.model("again")
    monkeypatch.setenv("CORRAL_MODELS", f'{{"both": {{"fallback": ["{first}", "{second}"]}}}}')
    (facts,) = place.corral("models", "info", "both", "--json").lines
    assert (facts["name"], facts["fallback"]) == ("both", [first, second])
    assert facts["context_window"] == 128_000


def test_info_heeds_the_settings(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CORRAL_CONTEXT_WINDOW", "1024")
    monkeypatch.setenv("CORRAL_LOCAL__CACHE_TOKENS", "4096")
    (facts,) = place.corral("models", "info", "local", "--json").lines
    assert (facts["context_window"], facts["cache_tokens"]) == (1024, 4096)
    if not facts["gpus"]:
        assert facts["flash_attention"] == "off"
        monkeypatch.setenv("CORRAL_LOCAL__FLASH_ATTENTION", "on")
        (flash,) = place.corral("models", "info", "local", "--json").lines
        assert flash["flash_attention"] == "on"
        assert flash["working_bytes"] < facts["working_bytes"]
    monkeypatch.setenv("CORRAL_LOCAL__FLASH_ATTENTION", "perhaps")
    assert "flash_attention" in place.corral("models", "info", "local").err


def test_info_of_a_hosted_model(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "key-for-a-test")
    (facts,) = place.corral("models", "info", "openai:gpt-4o", "--json").lines
    assert facts["context_window"] == 128_000
    assert facts["price_usd_per_million"]["output"] > facts["price_usd_per_million"]["input"]
    assert "key-for-a-test" not in str(facts)


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("local:lora", "no model 'lora' on this machine"),
        ("local:new", "which the installed llama.cpp does not know"),
        ("local:tiny-Q4", "Did you mean local:tiny-Q4_K_M?"),
        ("nothing", "There is no model 'nothing'"),
    ],
)
def test_what_is_no_model(place: Place, models: Path, ref: str, said: str) -> None:
    result = place.corral("models", "info", ref)
    assert result.code in {1, 2}
    assert said in " ".join(result.err.split())


def test_bench(place: Place) -> None:
    script = place.scripts / "bench.yaml"
    script.write_text('- {text: "one two three four"}\n' * 6)
    result = place.corral(
        "models", "bench", f"scripted:{script}", "--tokens", "4", "--parallel", "1,2", "--json"
    )
    (measured,) = result.lines
    assert [group["agents"] for group in measured["parallel"]] == [1, 2]
    assert measured["prompt_tokens"] > 0
    assert measured["memory_bytes"] > 0
    shown = place.corral("models", "bench", f"scripted:{script}", "--parallel", "1").out
    assert "first token, new prompt" in shown
    assert "decode, 1 answer" in shown


@pytest.mark.parametrize("counts", ["0", "x", "1,-2", "65", "1;2"])
def test_bench_wants_numbers(place: Place, counts: str) -> None:
    result = place.corral("models", "bench", "local", "--parallel", counts)
    assert result.code == 2
    assert "--parallel" in result.err


def test_listing_imports_no_model(models: Path) -> None:
    code = (
        "import sys\n"
        "from corral.cli.main import invoke\n"
        "assert invoke(['models', 'list', '--json']) == 0\n"
        "heavy = {'llama_cpp', 'llguidance', 'openai', 'anthropic', 'langgraph', 'numpy'}\n"
        "sys.stderr.write(str(sorted(heavy & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]"
