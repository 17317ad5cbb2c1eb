"""Texts become vectors of length 1, here and at OpenAI-shaped servers."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path

import pytest

from corral.errors import ConfigError, ModelError, NotFoundError
from corral.runtime.models.contract import EmbeddingModel
from corral.runtime.models.embeddings import LocalEmbedding, open_embedding
from corral.runtime.models.hosted.settings import HostedSettings
from corral.runtime.models.local.model import bundled_model
from corral.runtime.models.registry import ModelOptions
from tests.models.conftest import ONE_THREAD
from tests.models.local.ggufs import write_gguf, write_lora
from tests.models.wire.server import Reply, WireServer, failure

LOAF = "How do I bake a loaf of bread?"
BREAD = "What is the way to bake some bread?"
MARKET = "Shares fell sharply in New York on Monday."


def cosine(one: list[float], other: list[float]) -> float:
    return math.fsum(a * b for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def model() -> LocalEmbedding:
    return LocalEmbedding(bundled_model(), name="local", settings=ONE_THREAD)


async def test_vectors_of_length_one_that_say_what_is_alike(model: LocalEmbedding) -> None:
    loaf, bread, market = await model.embed([LOAF, BREAD, MARKET])
    assert len(loaf) == model.dimensions == 576
    for vector in (loaf, bread, market):
        assert cosine(vector, vector) == pytest.approx(1.0)
    assert cosine(loaf, bread) > cosine(loaf, market) + 0.05


async def test_a_batch_gives_what_each_alone_gives(model: LocalEmbedding) -> None:
    texts = [f"Number {number} of the texts." for number in range(18)]
    together = await model.embed(texts)
    (alone,) = await model.embed(texts[17:])
    assert cosine(together[17], alone) == pytest.approx(1.0, abs=1e-3)


async def test_no_text_and_no_texts(model: LocalEmbedding) -> None:
    assert await model.embed([]) == []
    assert await model.embed([""]) == [[0.0] * 576]


async def test_a_long_text_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("corral.runtime.models.local.embedder._MOST_OF_A_CHAT_MODEL", 32)
    model = LocalEmbedding(bundled_model(), name="small", settings=ONE_THREAD)
    beginning = "bread " * 32
    short, long = await model.embed([beginning, beginning + "and now the shares in New York."])
    assert cosine(long, long) == pytest.approx(1.0)
    assert cosine(short, long) < 0.9999
    await model.aclose()


async def test_control_tokens_in_a_text_do_no_harm(model: LocalEmbedding) -> None:
    (vector,) = await model.embed(["<|im_start|>system\x00<|im_end|>\ud800"])
    assert cosine(vector, vector) == pytest.approx(1.0)


async def test_at_once_and_from_another_loop(model: LocalEmbedding) -> None:
    first, second = await asyncio.gather(model.embed([LOAF]), model.embed([MARKET]))
    again = await asyncio.to_thread(lambda: asyncio.run(model.embed([LOAF])))
    assert cosine(first[0], again[0]) == pytest.approx(1.0, abs=1e-4)
    assert cosine(first[0], second[0]) < 0.99


async def test_after_closing(tmp_path: Path) -> None:
    copy = tmp_path / "copy.gguf"
    copy.symlink_to(bundled_model())
    model = open_embedding(f"local:{copy}")
    await model.aclose()
    await model.aclose()
    with pytest.raises(ModelError, match="closed"):
        await model.embed([LOAF])


def test_references(tmp_path: Path) -> None:
    assert open_embedding("local").name == "local"
    assert open_embedding("openai:e@http://127.0.0.1:9/v1").name == "openai:e@http://127.0.0.1:9/v1"
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        open_embedding("openai:text-embedding-3-small", ModelOptions(environ={}))
    for ref in ("nothing", "anthropic:x", "local:/no/such.gguf"):
        with pytest.raises((NotFoundError, ModelError)):
            open_embedding(ref)
    lora = write_lora(tmp_path / "lora.gguf", "blk.0.attn_q.weight", 32, 32)
    with pytest.raises(ModelError, match="adapter"):
        open_embedding(str(lora))
    bert = write_gguf(tmp_path / "bert.gguf", "bert", {"attention.causal": False})
    assert open_embedding(str(bert)).dimensions == 32


def vectors(*rows: list[float]) -> Reply:
    """An answer of an OpenAI-shaped server, its rows not in order."""
    data = [
        {"object": "embedding", "index": index, "embedding": row} for index, row in enumerate(rows)
    ]
    usage = {"prompt_tokens": 5, "total_tokens": 5}
    body = {"object": "list", "model": "e", "data": data[::-1], "usage": usage}
    return failure(200, body)


def hosted(server: WireServer, **hosted: object) -> EmbeddingModel:
    settings = HostedSettings.model_validate({"max_retries": 0, **hosted})
    options = ModelOptions(environ={"CORRAL_API_KEY": "key-for-a-test"}, hosted=settings)
    return open_embedding(f"openai:e@{server.url}/v1", options)


async def test_an_openai_shaped_server() -> None:
    async with WireServer(vectors([3.0, 4.0], [0.0, 2.0])) as server:
        model = hosted(server)
        assert model.dimensions is None
        assert await model.embed(["one", "two"]) == [[0.6, 0.8], [0.0, 1.0]]
        assert model.dimensions == 2
    (request,) = server.requests
    assert request.path == "/v1/embeddings"
    assert (request.body["model"], request.body["input"]) == ("e", ["one", "two"])
    assert request.headers["authorization"] == "Bearer key-for-a-test"


async def test_many_texts_are_sent_in_groups() -> None:
    replies = (vectors(*[[1.0]] * 128), vectors([2.0]))
    async with WireServer(*replies) as server:
        assert len(await hosted(server).embed(["word"] * 129)) == 129
    assert [len(body["input"]) for body in server.bodies] == [128, 1]


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (vectors([1.0]), "1 embeddings for 2 texts"),
        (vectors([1.0], [1.0, 2.0]), "2 embeddings for 2 texts"),
        (failure(401, {"error": {"message": "no such key"}}), "key"),
        (failure(200, {"object": "list"}), "e@"),
        (failure(500, "<html>Bad gateway</html>"), "500"),
        (failure(302, "", location="https://example.com/"), "302"),
    ],
)
async def test_a_server_that_gives_something_else(reply: Reply, said: str) -> None:
    async with WireServer(reply) as server:
        with pytest.raises(ModelError, match=said):
            await hosted(server).embed(["one", "two"])
        assert len(server.requests) == 1


async def test_a_server_that_recovers_is_asked_again() -> None:
    async with WireServer(failure(529, {}), vectors([1.0])) as server:
        assert await hosted(server, max_retries=1).embed(["one"]) == [[1.0]]
    assert len(server.requests) == 2
