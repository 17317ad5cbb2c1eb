"""Models that are on the machine already are found, named and opened."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from corral.errors import ModelError, NotFoundError
from corral.runtime.models.contract import Adapter
from corral.runtime.models.local.files.catalog import FoundModel, find_models, match_model
from corral.runtime.models.local.files.index import FileIndex
from corral.runtime.models.local.files.references import read_reference
from corral.runtime.models.local.model import LocalModel
from corral.runtime.models.local.settings import LocalSettings
from corral.runtime.models.registry import ModelOptions, open_model
from tests.models.local.ggufs import write_gguf, write_lora


class Machine:
    """A home with the caches of other programs in it."""

    def __init__(self, root: Path) -> None:
        self.home = root / "home"
        self.index = root / "index.json"
        self.environ = {"HOME": str(self.home)}

    def hugging_face(self, repository: str, *files: str) -> list[Path]:
        hub = self.home / ".cache" / "huggingface" / "hub"
        folder = hub / f"models--{repository.replace('/', '--')}"
        made = []
        for file in files:
            link = folder / "snapshots" / "0123abcd" / file
            blob = write_gguf(folder / "blobs" / file.replace("/", "-"))
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
            made.append(link)
        return made

    def ollama(self, name: str, tag: str, params: dict[str, object] | None = None) -> Path:
        root = self.home / ".ollama" / "models"
        blob = write_gguf(root / "blobs" / f"sha256-{len(name):064x}")
        layers = [{"mediaType": "application/vnd.ollama.image.model", "digest": _digest(blob)}]
        if params is not None:
            file = root / "blobs" / f"sha256-{1000 + len(name):064x}"
            file.write_text(json.dumps(params))
            kind = "application/vnd.ollama.image.params"
            layers.append({"mediaType": kind, "digest": _digest(file)})
        manifest = root / "manifests" / "registry.ollama.ai" / "library" / name / tag
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
        return blob

    def models(self, *folders: Path) -> list[FoundModel]:
        return find_models(folders, self.environ, FileIndex(self.index))

    def names(self, *folders: Path) -> list[str]:
        return [model.name for model in self.models(*folders)]

    def options(self, *folders: Path) -> ModelOptions:
        return ModelOptions(local=LocalSettings(model_dirs=folders), environ=self.environ)


def _digest(blob: Path) -> str:
    return blob.name.replace("-", ":")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Machine(tmp_path)


def test_the_hugging_face_cache(machine: Machine) -> None:
    (link,) = machine.hugging_face("unsloth/Tiny-1B-GGUF", "Tiny-1B-Q4_K_M.gguf")
    (found,) = machine.models()
    assert (found.name, found.place) == ("unsloth/Tiny-1B-GGUF:Q4_K_M", "hugging face")
    assert (found.path, found.facts.problem) == (link, "")
    for name in ("Tiny-1B-GGUF:q4_k_m", "tiny-1b-gguf", "Tiny-1B-Q4_K_M", "tiny-1b"):
        assert match_model(name, [found]) is found


def test_several_quantizations_are_told_apart(machine: Machine) -> None:
    machine.hugging_face("o/Tiny-GGUF", "Tiny-Q4_K_M.gguf", "Tiny-Q8_0.gguf")
    models = machine.models()
    assert {model.name for model in models} == {"o/Tiny-GGUF:Q4_K_M", "o/Tiny-GGUF:Q8_0"}
    assert match_model("tiny-gguf:q8_0", models).path.name == "Tiny-Q8_0.gguf"
    with pytest.raises(NotFoundError, match=r"'tiny' means 2 models: o/Tiny-GGUF:Q4_K_M, o/Tiny"):
        match_model("tiny", models)


def test_the_gguf_of_a_repository_may_be_left_out(machine: Machine) -> None:
    machine.hugging_face("o/Tiny-GGUF", "Tiny-Q4_K_M.gguf", "Tiny-Q8_0.gguf")
    for name in ("tiny:q8_0", "o/Tiny:Q8_0"):
        assert match_model(name, machine.models()).path.name == "Tiny-Q8_0.gguf"


def test_the_newest_snapshot_of_a_repository_counts(machine: Machine) -> None:
    (old,) = machine.hugging_face("o/Tiny-GGUF", "Tiny-Q8_0.gguf")
    new = write_gguf(old.parent.parent / "4567cdef" / old.name)
    os.utime(old.parent, (1, 1))
    (found,) = machine.models()
    assert found.path == new


def test_a_file_has_all_of_its_names(machine: Machine, tmp_path: Path) -> None:
    """Models of Ollama often share a file and differ in how it is run."""
    blob = machine.ollama("base", "latest")
    machine.ollama("mine", "latest", {"temperature": 0.1})
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "base.gguf").symlink_to(blob)
    models = machine.models(tmp_path / "own")
    assert match_model("mine", models).sampling.temperature == 0.1
    assert match_model("base", models).path.samefile(blob), "one file under one name is one model"


def test_hugging_face_variables(machine: Machine, tmp_path: Path) -> None:
    machine.hugging_face("o/One-GGUF", "one.gguf")
    hub = machine.home / ".cache" / "huggingface" / "hub"
    for variable, value in (("HF_HUB_CACHE", hub), ("HF_HOME", hub.parent)):
        machine.environ = {"HOME": str(tmp_path), variable: str(value)}
        assert len(machine.models()) == 1


def test_a_model_in_several_files_is_one(machine: Machine) -> None:
    files = [f"big-Q8_0-{number:05}-of-00002.gguf" for number in (1, 2)]
    machine.hugging_face("o/Big-GGUF", *files)
    (found,) = machine.models()
    assert match_model("big-q8_0", [found]).path.name == files[0]
    assert found.facts.size == sum((found.path.parent / name).stat().st_size for name in files)


def test_a_missing_part_is_said(machine: Machine) -> None:
    machine.hugging_face("o/Big-GGUF", "big-00001-of-00003.gguf")
    (found,) = machine.models()
    assert "lacks 2 of its files: big-00002-of-00003.gguf" in found.facts.problem


def test_what_is_no_model_is_left_out(machine: Machine, tmp_path: Path) -> None:
    write_gguf(tmp_path / "m" / "mmproj-x.gguf", "clip", tensors=None)
    write_gguf(tmp_path / "m" / "vocab.gguf", tensors={})
    write_lora(tmp_path / "m" / "lora.gguf", "blk.0.attn_q.weight", 32, 32)
    write_gguf(tmp_path / "m" / "sub" / "real.gguf")
    assert machine.names(tmp_path / "m") == ["real"]


def test_what_cannot_be_loaded_is_listed_with_the_reason(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write_gguf(folder / "new.gguf", "llama99")
    (folder / "cut.gguf").write_bytes((folder / "new.gguf").read_bytes()[:100])
    os.mkfifo(folder / "pipe.gguf")
    problems = {model.name: model.facts.problem for model in machine.models(folder)}
    assert set(problems) == {"new", "cut"}
    assert "'llama99'" in problems["new"]
    assert "incomplete" in problems["cut"]


def test_ollama(machine: Machine) -> None:
    blob = machine.ollama("tiny", "latest", {"temperature": 0.3, "stop": ["###"], "num_ctx": 99})
    (found,) = machine.models()
    assert (found.name, found.path) == ("tiny:latest", blob)
    assert (found.sampling.temperature, found.sampling.stop) == (0.3, ("###",))
    assert match_model("tiny", [found]) is found


def test_a_manifest_cannot_point_out_of_the_folder(machine: Machine, tmp_path: Path) -> None:
    blob = machine.ollama("tiny", "1b")
    manifest = next((machine.home / ".ollama").glob("**/library/tiny/1b"))
    other = write_gguf(tmp_path / "other.gguf")
    for digest in (f"sha256:../../../../{other.name}", str(other), "sha256:zz", 7, None):
        layer = {"mediaType": "application/vnd.ollama.image.model", "digest": digest}
        manifest.write_text(json.dumps({"layers": [layer]}))
        assert machine.models() == []
    assert blob.is_file()


@pytest.mark.parametrize("text", ["", "[]", "{", '{"layers": 5}', '{"layers": [5, null]}'])
def test_a_broken_manifest_is_left_out(machine: Machine, text: str) -> None:
    machine.ollama("tiny", "1b")
    next((machine.home / ".ollama").glob("**/library/tiny/1b")).write_text(text)
    assert machine.models() == []


def test_lm_studio_and_llama_cpp(machine: Machine) -> None:
    write_gguf(machine.home / ".lmstudio" / "models" / "pub" / "Repo-GGUF" / "repo-Q6_K.gguf")
    write_gguf(machine.home / ".cache" / "llama.cpp" / "ggml-org_flat-Q8_0.gguf")
    assert machine.names() == ["pub/Repo-GGUF:Q6_K", "ggml-org_flat-Q8_0"]


def test_a_typo_is_helped(machine: Machine, tmp_path: Path) -> None:
    write_gguf(tmp_path / "m" / "mistral-small-Q4_0.gguf")
    with pytest.raises(NotFoundError) as error:
        match_model("mistrall-smal", machine.models(tmp_path / "m"))
    assert "Did you mean local:mistral-small-Q4_0?" in error.value.hint


def test_headers_are_read_once(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_gguf(tmp_path / "m" / "one.gguf")
    first = machine.models(tmp_path / "m")
    read: list[Path] = []
    monkeypatch.setattr("corral.runtime.models.local.files.index.read_gguf", read.append)
    assert machine.models(tmp_path / "m") == first
    assert read == []
    monkeypatch.undo()
    write_gguf(file, "llama99", {"block_count": 2})
    assert machine.models(tmp_path / "m")[0].facts.architecture == "llama99"


@pytest.mark.parametrize(
    "data", [b"\x00", b"[]", b'{"form": 1}', b'{"form": 1, "build": "", "files": {"x": 5}}']
)
def test_a_damaged_index_is_read_anew(machine: Machine, tmp_path: Path, data: bytes) -> None:
    write_gguf(tmp_path / "m" / "one.gguf")
    machine.index.write_bytes(data)
    assert machine.names(tmp_path / "m") == ["one"]
    forged = json.loads(machine.index.read_text())
    for entry in forged["files"].values():
        entry["facts"]["size"] = "much"
    machine.index.write_text(json.dumps(forged))
    assert isinstance(machine.models(tmp_path / "m")[0].facts.size, int)


def test_references_open_a_model(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    file = write_gguf(folder / "one-Q4_0.gguf")
    adapter = write_lora(tmp_path / "ad.gguf", "blk.0.attn_q.weight", 32, 32)
    for ref in ("local:one", "local:ONE-q4_0", f"local:{file}", str(file), f"local:{folder}"):
        model = open_model(ref, machine.options(folder))
        assert isinstance(model, LocalModel)
        assert (model.name, model.info.path) == (ref, file)
    found = read_reference(f"one+{adapter}@0.5+{adapter}", [folder], machine.environ)
    assert found.path == file
    assert found.adapters == (Adapter(str(adapter), 0.5), Adapter(str(adapter), 1.0))


def test_a_plus_may_be_part_of_a_name(machine: Machine, tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "m" / "c++helper.gguf")
    for name in ("c++helper", str(file)):
        assert read_reference(name, [tmp_path / "m"], machine.environ).path == file


def test_references_that_open_nothing(machine: Machine, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    write_gguf(folder / "a.gguf")
    write_gguf(folder / "b.gguf")
    lora = write_lora(tmp_path / "ad.gguf", "blk.0.attn_q.weight", 32, 32)
    for ref, message in (
        (f"local:{folder}", "2 models in the folder"),
        (f"local:{tmp_path / 'empty'}", "no model file"),
        ("local:a+no.gguf", "no adapter no.gguf"),
        ("local:nothing", "no model 'nothing' on this machine"),
    ):
        with pytest.raises(NotFoundError, match=message):
            open_model(ref, machine.options(folder))
    with pytest.raises(ModelError, match="is a LoRA adapter and not a model"):
        open_model(f"local:{lora}", machine.options())
