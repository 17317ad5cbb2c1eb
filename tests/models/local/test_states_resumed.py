"""A conversation that goes on in another process, and the bytes of a state in llama.cpp itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corral.runtime.models.local.files.gguf import read_gguf
from corral.runtime.models.local.model import bundled_model
from corral.runtime.models.local.native.context import Context, Span
from corral.runtime.models.local.native.params import ContextParams, WeightsParams
from corral.runtime.models.local.native.weights import Weights
from corral.runtime.models.local.settings import FlashAttention
from corral.runtime.models.local.states.held import identity
from corral.runtime.models.local.states.removal import state_files, taken

pytestmark = pytest.mark.slow

FIRST, SECOND = "What does item 3 cost?", "And item 4?"


def process(
    states: Path, conversation: str, *questions: str, flash: str = "auto"
) -> list[dict[str, Any]]:
    """What a new process says about each of these questions."""
    script = [sys.executable, "-m", "tests.models.local.resuming"]
    command = [*script, str(states), conversation, flash]
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [*command, *questions], cwd=root, check=True, capture_output=True, text=True
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.timeout(300)
def test_another_process_goes_on_where_the_first_ended(tmp_path: Path) -> None:
    (cold,) = process(tmp_path, "thread", FIRST)
    assert cold["cached"] == 0
    again, further = process(tmp_path, "thread", FIRST, SECOND)
    assert again["cached"] == again["input"] - 1
    assert again["text"] == cold["text"]
    assert further["cached"] >= again["input"] - 1
    assert taken(tmp_path).states == 1

    (other,) = process(tmp_path, "another thread", "What is the sum of 2 and 3?")
    assert 0.8 * other["input"] < other["cached"] < other["input"] - 5


@pytest.mark.timeout(300)
def test_a_state_of_another_attention_is_not_read(tmp_path: Path) -> None:
    (cold,) = process(tmp_path, "thread", FIRST)
    (flash,) = process(tmp_path, "thread", FIRST, flash="on")
    (again,) = process(tmp_path, "thread", FIRST, flash="on")
    assert (cold["cached"], flash["cached"], again["cached"]) == (0, 0, again["input"] - 1)
    (back,) = process(tmp_path, "thread", FIRST, flash="off")
    assert (back["cached"], back["text"]) == (back["input"] - 1, cold["text"])


@pytest.mark.timeout(300)
def test_a_damaged_state_is_evaluated_anew(tmp_path: Path) -> None:
    (cold,) = process(tmp_path, "thread", FIRST)
    (state,) = state_files(tmp_path)
    os.truncate(state.path, state.size // 2)
    (again,) = process(tmp_path, "thread", FIRST)
    assert again == cold
    (third,) = process(tmp_path, "thread", FIRST)
    assert third["cached"] == third["input"] - 1


@pytest.fixture(scope="module")
def weights() -> Iterator[Weights]:
    loaded = Weights(read_gguf(bundled_model()), WeightsParams())
    yield loaded
    loaded.close()


def context(weights: Weights, flash: FlashAttention) -> Context:
    params = ContextParams(
        n_cells=256, n_batch=64, n_sequences=2, n_threads=1, flash_attention=flash
    )
    return Context(weights, params)


@pytest.mark.parametrize("flash", ["on", "off"])
def test_a_state_that_was_cut_continues_like_its_own_beginning(
    weights: Weights, flash: FlashAttention
) -> None:
    tokens = weights.tokenize("One two three four five six seven eight nine ten eleven twelve.")
    first = context(weights, flash)
    first.evaluate([Span(0, 0, tokens[:8], 1)])
    first.evaluate([Span(0, 8, tokens[8:9], 1)])
    expected = first.logits(0).copy()
    first.evaluate([Span(0, 9, tokens[9:], 1)])
    data = first.save_state(0)
    first.close()

    other = context(weights, "on" if flash == "off" else "off")
    assert other.load_state(1, data) is None, "values lie the other way round"
    other.close()
    second = context(weights, flash)
    assert second.load_state(1, data)
    assert second.cut(1, 8)
    second.evaluate([Span(1, 8, tokens[8:9], 1)])
    assert (second.logits(0) == expected).all()
    second.close()


def test_what_made_a_state_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(range(256)) * 40_000)
    os.utime(path, (1, 1))
    facts = {"build": "1", "layers": 0}
    before = identity(path, facts)
    assert identity(path, dict(reversed(facts.items()))) == before
    assert identity(path, {**facts, "build": "2"}) != before
    os.utime(path, (2, 2))
    assert identity(path, facts) != before
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"x")
    os.utime(path, (1, 1))
    assert identity(path, facts) != before
