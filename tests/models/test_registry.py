from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from corral.errors import ConfigError, CorralError, ModelError, NotFoundError
from corral.runtime.models.hosted.model import HostedModel
from corral.runtime.models.local.model import LocalModel
from corral.runtime.models.registry import ModelOptions, describe_models, open_model
from corral.runtime.models.scripted import ScriptedModel

KEYS = {"OPENAI_API_KEY": "sk-openai-1", "ANTHROPIC_API_KEY": "sk-ant-1"}
WITH_KEYS = ModelOptions(environ=KEYS)
NO_KEYS = ModelOptions(environ={})


def test_every_form_opens_its_model(tmp_path: Path) -> None:
    turns = tmp_path / "turns.yaml"
    turns.write_text("- {text: hi}")
    opened = {
        "local": LocalModel,
        f"scripted:{turns}": ScriptedModel,
        "openai:gpt-4o-mini": HostedModel,
        "anthropic:claude-haiku-4-5": HostedModel,
        "openai:qwen@http://127.0.0.1:8080/v1": HostedModel,
    }
    for ref, kind in opened.items():
        model = open_model(ref, WITH_KEYS)
        assert isinstance(model, kind)
        assert model.name == ref
        assert model.context_window > 0


def test_a_gguf_file_opens_with_or_without_the_prefix() -> None:
    from corral.runtime.models.local.model import bundled_model

    path = bundled_model()
    for ref in (f"local:{path}", str(path)):
        assert isinstance(open_model(ref), LocalModel)


@pytest.mark.parametrize(
    ("ref", "hint"),
    [
        ("opnai:gpt-4o", "Did you mean openai:gpt-4o?"),
        ("Anthropic:claude-x", "Did you mean anthropic:claude-x?"),
        ("gpt-4o-mini", "Did you mean openai:gpt-4o-mini?"),
        ("claude-haiku-4-5", "Did you mean anthropic:claude-haiku-4-5?"),
        ("turns.yaml", "Did you mean scripted:turns.yaml?"),
        ("locl", "Did you mean local?"),
        ("ollama:qwen3", "A model is one of: local"),
        ("", "A model is one of: local"),
    ],
)
def test_an_unknown_form_lists_the_forms(ref: str, hint: str) -> None:
    with pytest.raises(NotFoundError) as caught:
        open_model(ref, WITH_KEYS)
    assert hint in caught.value.hint
    for form, _ in describe_models():
        assert form in caught.value.hint


@pytest.mark.parametrize(
    ("ref", "kind", "said"),
    [
        ("openai:gpt-4o", ConfigError, "OPENAI_API_KEY is not set"),
        ("anthropic:claude-haiku-4-5", ConfigError, "ANTHROPIC_API_KEY is not set"),
        ("openai:", NotFoundError, "names no model"),
        ("openai:@http://127.0.0.1:1/v1", NotFoundError, "names no model"),
        ("local:", NotFoundError, "names no file"),
        ("scripted:", NotFoundError, "names no file"),
        ("local:/nowhere/model.gguf", NotFoundError, "no model file /nowhere/model.gguf"),
        ("/nowhere/model.gguf", NotFoundError, "no model file /nowhere/model.gguf"),
        ("scripted:/nowhere/turns.yaml", NotFoundError, "no script /nowhere/turns.yaml"),
        ("openai:m@ftp://127.0.0.1/v1", ConfigError, "not the base URL"),
        ("openai:m@localhost:8080", ConfigError, "not the base URL"),
        ("openai:m@http://", ConfigError, "not the base URL"),
        ("openai:m@http://127.0.0.1:99999/v1", ConfigError, "not the base URL"),
    ],
)
def test_what_can_be_checked_is_checked_at_once(
    ref: str, kind: type[CorralError], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        open_model(ref, NO_KEYS)
    assert caught.value.hint


def test_a_file_that_is_no_model_is_refused_at_once(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04" + b"\0" * 100)
    with pytest.raises(ModelError, match=r"model\.gguf"):
        open_model(str(path))


@pytest.mark.parametrize(
    "url",
    ["http://me:s3cret@127.0.0.1:1/v1", "http://127.0.0.1:1/v1?key=s3cret", "ftp://me:s3cret@x/v1"],
)
def test_secrets_in_a_url_are_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_model(f"openai:m@{url}", NO_KEYS)
    assert "s3cret" not in str(caught.value)


def test_a_key_with_a_line_break_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY holds") as caught:
        open_model("openai:gpt-4o", ModelOptions(environ={"OPENAI_API_KEY": "sk-ab\ncd"}))
    assert "sk-ab" not in str(caught.value)


def test_options_and_models_do_not_show_keys() -> None:
    model = open_model("openai:gpt-4o", WITH_KEYS)
    assert isinstance(model, HostedModel)
    assert "sk-openai-1" not in repr(WITH_KEYS) + repr(vars(model))


@pytest.mark.parametrize(
    ("ref", "window"),
    [
        ("openai:gpt-4o", 128_000),
        ("openai:gpt-4.1-mini-2025-04-14", 1_047_576),
        ("openai:something-new", 128_000),
        ("anthropic:claude-haiku-4-5", 200_000),
        ("anthropic:something-new", 200_000),
    ],
)
def test_context_windows(ref: str, window: int) -> None:
    assert open_model(ref, WITH_KEYS).context_window == window
    small = ModelOptions(environ=KEYS, context_window=4096)
    assert open_model(ref, small).context_window == 4096


def test_no_context_window_is_larger_than_in_langchains_profiles() -> None:
    from langchain_anthropic.data._profiles import _PROFILES as ANTHROPIC
    from langchain_openai.data._profiles import _PROFILES as OPENAI

    known = 0
    for provider, profiles in (("openai", OPENAI), ("anthropic", ANTHROPIC)):
        for name, profile in profiles.items():
            if not profile.get("tool_calling"):
                continue
            # The profile of gpt-5 counts the request alone.
            read = profile["max_input_tokens"]
            window = open_model(f"{provider}:{name}", WITH_KEYS).context_window
            largest = 400_000 if read == 272_000 else read
            assert window <= largest, name
            known += window == largest
    assert known > 40


def test_opening_imports_no_sdk() -> None:
    code = """
import sys
from corral.runtime.models.registry import ModelOptions, open_model
options = ModelOptions(environ={"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"})
for ref in ("local", "openai:gpt-4o", "anthropic:claude-haiku-4-5", "openai:m@http://127.0.0.1:1/v1"):
    open_model(ref, options)
heavy = {"openai", "anthropic", "langchain_openai", "langchain_anthropic", "llama_cpp", "httpx2"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
