"""Files beside a prompt: what the model gets, what is kept and shown, what is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import corral
from corral.errors import NotFoundError, UsageError
from corral.memory.labelled import label_of
from corral.runtime.attachments import MAX_BYTES, MAX_FILES, MAX_TEXT, Attachment
from corral.runtime.config import Settings
from corral.runtime.models.contract import Chunk, ModelRequest
from tests.runtime.agents import Turn, turn

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class Seeing(corral.ScriptedModel):
    """A scripted model that keeps what it is asked."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        super().__init__(turns)
        self.asked: list[ModelRequest] = []

    def stream(self, request: ModelRequest) -> AsyncIterator[Chunk]:
        """Keep the request, and answer as the script says."""
        self.asked.append(request)
        return super().stream(request)


def seeing(*texts: str) -> tuple[Seeing, corral.Agent]:
    """A model that says these texts, and its agent."""
    model = Seeing([turn(text) for text in texts])
    return model, corral.Agent(chat_model=model, servers=(), facts=0)


FILES = (Attachment.of("notes.txt", b"Buy milk."), Attachment.of("dot.png", PIXEL))


async def test_the_model_gets_the_files_before_the_prompt(settings: Settings) -> None:
    model, agent = seeing("A dot.")
    async with corral.open(settings) as c:
        done = await c.run("What is it?", corral.RunOptions(agent=agent, attachments=FILES))
    assert done.status == "completed"
    *_, notes, dot, prompt = model.asked[0].messages
    assert "notes.txt" in str(notes.content)
    assert str(notes.content).endswith("Buy milk.")
    assert isinstance(dot.content, list)
    image = dot.content[-1]
    assert isinstance(image, dict)
    assert (image["type"], image["mime_type"]) == ("image", "image/png")
    assert base64.b64decode(image["base64"]) == PIXEL
    assert prompt.text == "What is it?"
    assert label_of(notes).untrusted
    assert label_of(dot).untrusted
    assert not label_of(prompt).untrusted


async def test_traces_show_what_a_file_is_and_not_what_is_in_it(settings: Settings) -> None:
    _, agent = seeing("A dot.")
    async with corral.open(settings) as c:
        await c.run("What is it?", corral.RunOptions(agent=agent, attachments=FILES))
        first, *rest = await c.records.trace("last")
    assert (first.name, first.request) == (
        "attachments",
        {"files": [file.to_json() for file in FILES]},
    )
    told = json.dumps([first.result, *(effect.request for effect in rest)])
    assert base64.b64encode(PIXEL).decode() not in told
    assert f"{len(PIXEL)} bytes, not shown" in told


async def test_a_thread_a_replay_and_a_fork_keep_the_files(settings: Settings) -> None:
    model, agent = seeing("A dot.", "Still a dot.")
    async with corral.open(settings) as c:
        options = corral.RunOptions(agent=agent, attachments=FILES)
        done = await c.run("What is it?", options)
        report = await c.replay(done.run, options)
        assert report.status == "identical"
        ask = next(e for e in await c.records.trace(done.run) if e.kind == "model")
        forked = await c.fork(
            done.run, corral.Fork(at=ask.seq), corral.RunOptions(agent=seeing("Hm.")[1])
        )
        assert (forked.status, forked.output) == ("completed", "Hm.")
        assert (await c.replay(forked.run, corral.RunOptions(agent=agent))).status == "identical"
        again = corral.RunOptions(agent=agent, thread=done.thread)
        model.asked.clear()
        await c.run("And now?", again)
    assert sum(isinstance(message.content, list) for message in model.asked[0].messages) == 1


async def test_a_secret_in_a_file_is_not_kept(settings: Settings) -> None:
    secret = "AKIA" + "IOSFODNN7EXAMPLQ"
    model, agent = seeing("Fine.")
    file = Attachment.of("keys.txt", f"key = {secret}".encode())
    async with corral.open(settings) as c:
        await c.run("Look.", corral.RunOptions(agent=agent, attachments=(file,)))
    assert secret not in str(model.asked[0].messages)
    assert secret.encode() not in (settings.home / "corral.db").read_bytes()


async def test_a_model_that_takes_text_only_says_so_before_anything_is_loaded(
    settings: Settings,
) -> None:
    agent = corral.Agent(servers=(), facts=0, model="local")
    async with corral.open(settings) as c:
        options = corral.RunOptions(agent=agent, attachments=FILES)
        done = await c.run("What is it?", options)
    assert done.status == "failed"
    assert "takes text only" in str(done.error)


def test_what_is_no_file_or_too_much_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        Attachment.read(tmp_path / "none.txt")
    with pytest.raises(UsageError, match="no file"):
        Attachment.read(tmp_path)
    with pytest.raises(UsageError, match="too large"):
        Attachment.of("big.png", PIXEL + bytes(MAX_BYTES))
    with pytest.raises(UsageError, match="too long"):
        Attachment.of("long.txt", b"x" * (MAX_TEXT + 1))
    with pytest.raises(UsageError, match="no text"):
        Attachment.of("odd.bin", b"\x00\x01\x02")


async def test_too_many_files_and_files_for_a_fork_are_refused(settings: Settings) -> None:
    _, agent = seeing("Fine.")
    async with corral.open(settings) as c:
        with pytest.raises(UsageError, match="21 files"):
            await c.run(
                "Look.", corral.RunOptions(agent=agent, attachments=FILES[:1] * (MAX_FILES + 1))
            )
        done = await c.run("Look.", corral.RunOptions(agent=agent))
        options = corral.RunOptions(agent=agent, attachments=FILES)
        with pytest.raises(UsageError, match="new run only"):
            await c.fork(done.run, corral.Fork(at=2), options)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        file = Attachment.of("any", data)
    except UsageError:
        return
    assert file.to_json()["size"] == len(data)
