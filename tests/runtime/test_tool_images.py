"""Images in the results of tools: who sees them, what is kept, and what goes with them."""

from __future__ import annotations

import base64
import random
import sqlite3
from collections.abc import AsyncIterator, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import BaseMessage, ToolMessage

import corral
from corral.memory.labelled import label_of
from corral.policies.redaction import Redactor
from corral.runtime import carried
from corral.runtime.attachments import Attachment
from corral.runtime.config import Settings, load_settings
from corral.runtime.models.combined.fallback import Fallback
from corral.runtime.models.contract import Chunk, ModelRequest
from corral.runtime.models.media import NOT_SHOWN, takes_images
from corral.runtime.models.scripted import ScriptedModel
from corral.runtime.sections import SamplingConfig
from tests.runtime.agents import Turn, turn
from tests.runtime.exports import exported, imported

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
NOISE = PIXEL + random.Random(6).randbytes(300_000)
"""An image whose base64 looks like a secret somewhere, as any large one does."""


class Blind(ScriptedModel):
    """A scripted model that keeps what it is asked."""

    def __init__(self, turns: Iterable[Turn]) -> None:
        super().__init__(list(turns))
        self.asked: list[ModelRequest] = []

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Keep the request, and answer as the script says."""
        self.asked.append(request)
        return super().stream(request)


class Seeing(Blind):
    """The same, for which results may have images."""

    takes_images = True


LOOK: Turn = {"tool_calls": [{"name": "files__read_file", "args": {"path": "dot.png"}}]}


@pytest.fixture
def looking(settings: Settings) -> Settings:
    """A workspace with an image in it."""
    (settings.workspace / "dot.png").write_bytes(NOISE)
    return settings


def agent(model: ScriptedModel, **fields: Any) -> corral.Agent:
    return corral.Agent(chat_model=model, servers=("files",), facts=0, **fields)


def options(model: ScriptedModel, **fields: Any) -> corral.RunOptions:
    return corral.RunOptions(agent=agent(model, **fields))


def result_in(messages: Iterable[BaseMessage]) -> ToolMessage:
    (found,) = [message for message in messages if isinstance(message, ToolMessage)]
    return found


def large_blobs(settings: Settings) -> int:
    """How many contents are stored that are at least as large as the image."""
    with closing(sqlite3.connect(settings.home / "corral.db")) as database:
        query = "SELECT count(*) FROM blobs WHERE size > ?"
        (count,) = database.execute(query, (len(NOISE),)).fetchone()
        return int(count)


async def test_a_model_that_takes_images_sees_them_and_their_label(looking: Settings) -> None:
    model = Seeing([LOOK, turn("A dot.")])
    async with corral.open(looking) as c:
        done = await c.run("What is it?", options(model))
    assert done.status == "completed"
    shown = result_in(model.asked[1].messages)
    assert isinstance(shown.content, list)
    text, image = shown.content
    assert isinstance(text, dict)
    assert isinstance(image, dict)
    assert text["text"].endswith(" bytes]")
    assert "[image, image/png, 300,0" in text["text"]
    assert (image["type"], image["mime_type"]) == ("image", "image/png")
    assert base64.b64decode(image["base64"]) == NOISE
    assert label_of(shown).untrusted


async def test_any_other_model_gets_a_note(looking: Settings) -> None:
    model = Blind([LOOK, turn("A file.")])
    async with corral.open(looking) as c:
        done = await c.run("What is it?", options(model))
        first, *_ = await c.records.trace(done.run)
    assert isinstance(first.result, dict)
    assert "images" not in first.result, "a run with a blind model begins as it always did"
    shown = result_in(model.asked[1].messages)
    assert isinstance(shown.content, str)
    assert shown.content.endswith(f"bytes]\n{NOT_SHOWN}")


@pytest.mark.parametrize("window", [pytest.param(1024, marks=pytest.mark.slow), 4096])
async def test_a_local_model_takes_over_a_thread_with_images(
    looking: Settings, window: int
) -> None:
    sampling = SamplingConfig(max_tokens=8)
    small = looking.model_copy(update={"context_window": window, "sampling": sampling})
    async with corral.open(small) as c:
        done = await c.run("What is it?", options(Seeing([LOOK, turn("A dot.")])))
        local = corral.Agent(model="local", servers=(), facts=0)
        later = await c.run("And now?", corral.RunOptions(agent=local, thread=done.thread))
    assert (later.status, later.error) == ("completed", None)


async def test_a_trace_shows_the_size_and_a_replay_a_fork_and_the_thread_have_the_image(
    looking: Settings,
) -> None:
    model = Seeing([LOOK, turn("A dot.")])
    async with corral.open(looking) as c:
        done = await c.run("What is it?", options(model))
        assert (await c.replay(done.run)).status == "identical"
        trace = await c.records.trace(done.run)
        (call,) = [effect for effect in trace if effect.kind == "tool"]
        assert isinstance(call.result, dict)
        size = f"[{len(NOISE):,} bytes, not shown]"
        assert call.result["images"] == [{"mime_type": "image/png", "base64": size}]
        last = trace[-1].seq
        other = Seeing([LOOK, turn("A speck.")])
        forked = await c.fork(done.run, corral.Fork(at=last), options(other))
        assert (forked.status, forked.output) == ("completed", "A speck.")
        assert isinstance(result_in(other.asked[0].messages).content, list)
        assert (await c.replay(forked.run)).status == "identical"
        later = Seeing([turn("Still one.")])
        await c.run("And now?", corral.RunOptions(agent=agent(later), thread=done.thread))
        assert isinstance(result_in(later.asked[0].messages).content, list)


async def test_a_run_with_images_is_exported_imported_and_deleted_with_them(
    looking: Settings, tmp_path: Path
) -> None:
    async with corral.open(looking) as c:
        done = await c.run("What is it?", options(Seeing([LOOK, turn("A dot.")])))
        content = await exported(c, done.run)
        assert base64.b64encode(NOISE) in content
        assert large_blobs(looking) > 0
        await c.records.delete(done.thread)
        assert large_blobs(looking) == 0
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere = load_settings({"home": tmp_path / "other", "workspace": folder})
    async with corral.open(elsewhere) as c:
        found = await imported(c, tmp_path / "run.jsonl", content)
        assert (await c.replay(found.run)).status == "identical"
        assert await exported(c, found.run) == content


async def test_what_a_check_has_mended_has_no_image_any_more(looking: Settings) -> None:
    mend = corral.Check(
        name="sizes", on="tool_result", on_fail="fix", pattern=r"[\d,]+ bytes", replace="some bytes"
    )
    model = Seeing([LOOK, turn("A dot.")])
    async with corral.open(looking) as c:
        await c.run("What is it?", options(model, checks=(mend,)))
    shown = result_in(model.asked[1].messages)
    assert isinstance(shown.content, str)
    assert "some bytes" in shown.content


async def test_a_file_beside_a_prompt_is_kept_as_it_is(settings: Settings) -> None:
    model = Seeing([turn("Noise.")])
    files = (Attachment.of("noise.png", NOISE),)
    asked = corral.RunOptions(agent=corral.Agent(chat_model=model, facts=0), attachments=files)
    async with corral.open(settings) as c:
        await c.run("What is it?", asked)
    (image,) = [
        block
        for message in model.asked[0].messages
        if isinstance(message.content, list)
        for block in message.content
        if isinstance(block, dict) and block["type"] == "image"
    ]
    assert base64.b64decode(image["base64"]) == NOISE


def test_noise_looks_like_a_secret_and_is_kept_and_a_known_secret_is_not() -> None:
    secret = "correct-horse-battery"
    redactor = Redactor([secret])
    lure = base64.b64encode(b"\0" + secret.encode()).decode()
    plain = {"mime_type": "image/png", "base64": "/AKIA" + "IOSFODNN7EXAMPLQ/"}
    assert redactor.json([plain]) != [plain]
    value = {"text": f"the {secret}", "images": [plain, {"mime_type": "image/png", "base64": lure}]}
    clean = carried.redacted(value, redactor)
    assert secret not in str(clean)
    assert clean["images"] == [plain, {"mime_type": "image/png", "base64": ""}]
    untouched = {"text": "nothing", "images": []}
    assert carried.redacted(untouched, redactor) is untouched


def test_a_chain_takes_images_if_one_of_its_members_does() -> None:
    seeing, blind = Seeing([]), Blind([])
    assert takes_images(Fallback("a | b", [blind, seeing]))
    assert not takes_images(Fallback("a | b", [blind, blind]))
