"""An answer that was given is given again: to whom, for how long, and what is never kept."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from sqlalchemy import func, select, update

import corral
from corral.agents import services
from corral.errors import ConfigError, ModelError
from corral.jsontypes import JsonObject, canonical
from corral.policies.budgets import Budget, Budgets
from corral.policies.prices import Price
from corral.policies.provenance.labels import KEY, Label
from corral.runtime.caching import store
from corral.runtime.caching.questions import Questions, is_deterministic
from corral.runtime.caching.settings import CacheSettings, CacheTtl
from corral.runtime.caching.similarity import marks
from corral.runtime.config import Settings
from corral.runtime.effects import Attempt, Effect, Outcome
from corral.runtime.events import ModelFinished, TextDelta
from corral.runtime.models.contract import (
    Chunk,
    FinalChunk,
    ModelRequest,
    StopReason,
    TextChunk,
    Usage,
)
from corral.runtime.redaction_settings import RedactionSettings
from corral.runtime.tables import effects, kept_answers

ZERO = {"sampling": {"temperature": 0.0}}


@dataclass
class Oracle:
    """A model whose answers follow from the request, as far as anybody knows: it counts them."""

    name: str = "oracle"
    identity: JsonObject | None = field(default_factory=lambda: dict(ZERO))
    calls: Sequence[str] = ()
    stop_reason: StopReason = "stop"
    facts: JsonObject = field(default_factory=dict)
    price: Price = field(default_factory=lambda: Price(input=1.0, output=1.0))
    context_window: int = 100_000
    asked: list[ModelRequest] = field(default_factory=list)

    async def stream(self, request: ModelRequest) -> AsyncGenerator[Chunk, None]:
        self.asked.append(request)
        if self.calls and not isinstance(request.messages[-1], ToolMessage):
            made = [{"name": f"functions__{one}", "args": {}, "id": "c1"} for one in self.calls]
            yield FinalChunk(AIMessage("", tool_calls=made), Usage(10, 5), "tool_calls")
            return
        text = f"Answer {len(self.asked)}."
        yield TextChunk(text)
        yield FinalChunk(AIMessage(text), Usage(10, 5), self.stop_reason, facts=self.facts)

    def check_complete(self, turns: int) -> None: ...

    async def aclose(self) -> None: ...


def options(oracle: Any, **fields: Any) -> corral.RunOptions:
    own = {"servers": (), "facts": 0, "instructions": "Answer.", **fields}
    return corral.RunOptions(agent=corral.Agent(chat_model=oracle, **own))


def caching(settings: Settings, **fields: Any) -> Settings:
    return settings.model_copy(update={"cache": CacheSettings(**fields)})


async def kept(c: corral.Corral) -> int:
    def work(connection: Any) -> int:
        return int(connection.execute(select(func.count()).select_from(kept_answers)).scalar_one())

    return await c.records.database.read(work)


async def answer_of(c: corral.Corral, run: str) -> JsonObject:
    """What the journal holds of a run's last model call."""
    return [e.result for e in await c.records.trace(run) if e.kind == "model"][-1]  # type: ignore[return-value]  # it has ended


async def test_the_same_request_is_answered_once(settings: Settings) -> None:
    oracle = Oracle()
    async with corral.open(settings) as c:
        first = await c.run("What is it?", options(oracle))
        again = await c.run("What is it?", options(oracle))
        other = await c.run("What else is it?", options(oracle))
        told = await answer_of(c, again.run)
    assert [first.output, again.output, other.output] == ["Answer 1.", "Answer 1.", "Answer 2."]
    assert len(oracle.asked) == 2
    assert told["cache"] == "exact"
    assert told["facts"]["cache"] == {"run": first.run, "path": "1.model#0"}


async def test_a_hit_costs_nothing_and_is_a_step(settings: Settings) -> None:
    oracle = Oracle()
    async with corral.open(settings) as c:
        first = await c.run("What is it?", options(oracle))
        again = await c.run("What is it?", options(oracle))
    assert first.usage.cost_usd > 0
    assert (again.usage.input_tokens, again.usage.output_tokens, again.usage.cost_usd) == (0, 0, 0)
    assert again.steps == 1


async def test_a_hit_is_streamed_as_an_answer_is(settings: Settings) -> None:
    async with corral.open(settings) as c:
        for expected in (False, True):
            events = [e async for e in c.stream("What is it?", options(Oracle()))]
            texts = [e.text for e in events if isinstance(e, TextDelta)]
            assert texts == ["Answer 1."], expected
            assert any(isinstance(e, ModelFinished) for e in events)


async def test_a_used_up_budget_has_room_for_a_hit(settings: Settings) -> None:
    oracle = Oracle()
    async with corral.open(settings) as c:
        await c.run("What is it?", options(oracle))
    tight = settings.model_copy(update={"budgets": Budgets(run=Budget(tokens=1))})
    async with corral.open(tight) as c:
        again = await c.run("What is it?", options(oracle))
        other = await c.run("Something new?", options(oracle))
    assert (again.status, again.output) == ("completed", "Answer 1.")
    assert other.status != "completed"


@pytest.mark.parametrize(
    "changed",
    [
        {"instructions": "Answer well."},
        {"sampling": {"temperature": 0.0, "max_tokens": 7}},
        {"tools_": True},
        {"name_": "another"},
        {"identity_": {**ZERO, "file": "changed"}},
    ],
)
async def test_what_an_answer_depends_on_makes_another_request(
    settings: Settings, changed: dict[str, Any]
) -> None:
    def look() -> str:
        """Look."""
        return "nothing"

    oracle, more = Oracle(), dict(changed)
    async with corral.open(settings) as c:
        await c.run("What is it?", options(oracle))
        if more.pop("tools_", False):
            more["functions"] = (look,)
        oracle.name = more.pop("name_", oracle.name)
        oracle.identity = more.pop("identity_", oracle.identity)
        await c.run("What is it?", options(oracle, **more))
    assert len(oracle.asked) == 2


@pytest.mark.parametrize(
    "oracle",
    [
        Oracle(identity=None),
        Oracle(identity={"sampling": {"temperature": 0.7}}),
        Oracle(identity={"sampling": {}}),
        Oracle(stop_reason="length"),
        Oracle(stop_reason="refusal"),
        Oracle(facts={"fallbacks": [{"model": "a", "error": "down"}]}),
    ],
)
async def test_what_is_not_kept(settings: Settings, oracle: Oracle) -> None:
    async with corral.open(settings) as c:
        await c.run("What is it?", options(oracle))
        await c.run("What is it?", options(oracle))
        assert await kept(c) == 0
    assert len(oracle.asked) == 2


async def test_the_users_own_temperature_counts_before_the_models(settings: Settings) -> None:
    warm = Oracle(identity={"sampling": {"temperature": 0.0}})
    async with corral.open(settings) as c:
        for _ in range(2):
            await c.run("What is it?", options(warm, sampling={"temperature": 0.5}))
    assert len(warm.asked) == 2
    cold = Oracle(identity={"sampling": {}})
    async with corral.open(settings) as c:
        for _ in range(2):
            await c.run("What is it, cold?", options(cold, sampling={"temperature": 0.0}))
    assert len(cold.asked) == 1


async def test_always_keeps_what_is_drawn_by_chance_too(settings: Settings) -> None:
    oracle = Oracle(identity={"sampling": {}})
    async with corral.open(caching(settings, when="always")) as c:
        for _ in range(2):
            await c.run("What is it?", options(oracle))
    assert len(oracle.asked) == 1


async def test_off_is_off(settings: Settings) -> None:
    oracle = Oracle()
    async with corral.open(caching(settings, mode="off")) as c:
        for _ in range(2):
            await c.run("What is it?", options(oracle))
        assert await kept(c) == 0
    assert len(oracle.asked) == 2


async def test_calls_are_given_again_with_ids_of_their_own(settings: Settings) -> None:
    def look() -> str:
        """Look."""
        looked.append(True)
        return "nothing"

    looked: list[bool] = []
    look_again = corral.tool(read_only=True)(look)
    oracle = Oracle(calls=("look",))
    own = options(oracle, functions=(look_again,))
    async with corral.open(settings) as c:
        first = await c.run("Look.", own)
        again = await c.run("Look.", own)
        assert first.status == again.status == "completed", (first.error, again.error)
        found: list[Any] = [e.result for e in await c.records.trace(again.run) if e.kind == "model"]
    assert len(looked) == 2, "a tool is really called"
    assert len(oracle.asked) == 2, "the ids of calls make no other request"
    assert [result["cache"] for result in found] == ["exact", "exact"]


async def test_an_answer_is_kept_for_as_long_as_its_kind_is(settings: Settings) -> None:
    oracle = Oracle()
    async with corral.open(caching(settings, ttl=CacheTtl(plain="2h"))) as c:
        await c.run("What is it?", options(oracle))

        def age(connection: Any) -> tuple[str, str]:
            row = connection.execute(select(kept_answers)).one()
            connection.execute(update(kept_answers).values(expires_at=row.made_at))
            return row.made_at, row.expires_at

        made, expires = await c.records.database.write(age)
        await c.run("What is it?", options(oracle))
    assert made[:10] <= expires[:10]
    assert len(oracle.asked) == 2


async def test_the_least_recently_used_are_let_go(settings: Settings) -> None:
    oracle = Oracle()
    async with corral.open(settings) as c:
        for prompt in ("a?", "b?", "c?", "a?"):
            await c.run(prompt, options(oracle))
        await c.records.database.write(lambda connection: store.let_go(connection, 2))
        for prompt in ("a?", "c?"):
            await c.run(prompt, options(oracle))
        assert len(oracle.asked) == 3
        await c.run("b?", options(oracle))
    assert len(oracle.asked) == 4


async def test_a_deleted_thread_takes_its_answers_with_it(settings: Settings) -> None:
    oracle = Oracle()
    async with corral.open(settings) as c:
        first = await c.run("What is it?", options(oracle))
        await c.run("What else?", options(oracle))
        await c.records.delete(first.thread)
        assert await kept(c) == 1
        again = await c.run("What is it?", options(oracle))
    assert again.output == "Answer 3."


async def test_a_damaged_answer_is_asked_for_again(settings: Settings) -> None:
    oracle = Oracle()
    async with corral.open(settings) as c:
        await c.run("What is it?", options(oracle))
        await c.records.database.write(
            lambda connection: connection.execute(
                update(effects).where(effects.c.kind == "model").values(result="{")
            )
        )
        again = await c.run("What is it?", options(oracle))
    assert (again.status, len(oracle.asked)) == ("completed", 2)


async def test_a_replay_and_a_resume_know_nothing_of_it(settings: Settings) -> None:
    oracle = Oracle()
    async with corral.open(settings) as c:
        await c.run("What is it?", options(oracle))
        again = await c.run("What is it?", options(oracle))
        report = await c.replay(again.run, options(oracle))
        await c.records.database.write(lambda connection: connection.execute(kept_answers.delete()))
        later = await c.replay(again.run, options(oracle))
    assert (report.status, later.status) == ("identical", "identical")
    assert len(oracle.asked) == 1


async def test_a_failure_is_not_kept(settings: Settings) -> None:
    class Failing(Oracle):
        async def stream(self, request: ModelRequest) -> AsyncGenerator[Chunk, None]:
            if not self.asked:
                self.asked.append(request)
                raise ModelError("down")
            async for chunk in super().stream(request):
                yield chunk

    oracle = Failing()
    async with corral.open(settings) as c:
        failed = await c.run("What is it?", options(oracle))
        done = await c.resume(failed.run, options(oracle))
        assert await kept(c) == 1
    assert (failed.status, done.output) == ("failed", "Answer 2.")


async def test_a_secret_in_the_conversation_is_not_shared(settings: Settings) -> None:
    oracle = Oracle()
    card = "Pay with 4111 1111 1111 1111, will you?"
    async with corral.open(settings) as c:
        for _ in range(2):
            await c.run(card, options(oracle))
        assert await kept(c) == 0
    assert len(oracle.asked) == 2
    assert "[redacted:card#" in str(oracle.asked[0].messages[-1].content)


async def test_what_went_into_a_kept_answer_counts_for_the_new_one(settings: Settings) -> None:
    oracle = Oracle()
    strange = Label(("a stranger's page",), untrusted=True, readers=frozenset())
    async with corral.open(settings) as c:
        first = await c.run("What is it?", options(oracle))
        value = {**await answer_of(c, first.run), KEY: strange.to_json()}

        def taint(connection: Any) -> None:
            of_models = update(effects).where(effects.c.kind == "model")
            connection.execute(of_models.values(result=canonical(value)))

        await c.records.database.write(taint)
        again = await c.run("What is it?", options(oracle))
        label = Label.from_json((await answer_of(c, again.run))[KEY])
    assert label.untrusted
    assert label.readers == frozenset()
    assert label.sources == ("the user", "a stranger's page")


async def _nothing(_attempt: Attempt) -> Outcome:
    raise AssertionError("not made")


def effect(*messages: Any, **request: Any) -> Effect:
    return Effect("model", "m", {"model": "m", **request}, _nothing, transcript=list(messages))


def calling(call_id: str) -> list[Any]:
    call = {"name": "look", "args": {}, "id": call_id}
    return [
        HumanMessage("Look."),
        AIMessage("", tool_calls=[call]),
        ToolMessage("x", tool_call_id=call_id),
    ]


def test_a_transcript_that_grows_is_the_same_as_one_read_at_once() -> None:
    growing = Questions()
    messages = [*calling("a"), AIMessage("It is x."), *calling("b")[1:], HumanMessage("And now?")]
    for length in range(1, len(messages) + 1):
        grown = growing.of(effect(*messages[:length]), {})
        assert grown == Questions().of(effect(*messages[:length]), {})
    again = growing.of(effect(*messages[:2]), {})
    assert again == Questions().of(effect(*messages[:2]), {})


def test_ids_are_no_part_of_a_request_and_which_call_is_meant_is() -> None:
    one, other = (
        Questions().of(effect(*calling("a")), {}),
        Questions().of(effect(*calling("b")), {}),
    )
    assert one == other
    assert one is not None
    assert one.kind == "after_tools"
    crossed = [*calling("a")[:2], ToolMessage("x", tool_call_id="z")]
    assert Questions().of(effect(*crossed), {}) != one


def test_only_the_last_words_of_the_user_may_differ_in_a_scope() -> None:
    def scope(*messages: Any, **request: Any) -> str:
        question = Questions().of(effect(*messages, **request), {})
        assert question is not None
        return question.scope

    begin = [HumanMessage("Hello."), AIMessage("Hi.")]
    assert scope(*begin, HumanMessage("a")) == scope(*begin, HumanMessage("b"))
    assert scope(*begin, HumanMessage("a")) != scope(HumanMessage("a"))
    assert scope(HumanMessage("a"), tools=["x"]) != scope(HumanMessage("a"))


def test_several_models_are_deterministic_if_all_are() -> None:
    cold, warm = ZERO, {"sampling": {"temperature": None}}
    assert is_deterministic({}, {"members": [cold, cold]})
    assert not is_deterministic({}, {"members": [cold, warm]})
    assert is_deterministic({"temperature": 0}, {"members": [cold, warm]})


class Meanings:
    """An embedding model that finds the texts of ``alike`` nearly the same, others not at all."""

    name, dimensions = "meanings", 3

    def __init__(self, *alike: str) -> None:
        self.alike = alike
        self.broken = False

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        if self.broken:
            raise ModelError("no memory")
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> list[float]:
        if text not in self.alike:
            return [0.0, 0.0, 1.0]
        tilt = 0.01 * self.alike.index(text)
        return [(1 - tilt * tilt) ** 0.5, tilt, 0.0]

    async def aclose(self) -> None: ...


@pytest.fixture
def meanings(monkeypatch: pytest.MonkeyPatch) -> Meanings:
    model = Meanings(
        *("What is the capital of France?", "Which city is the capital of France?"),
        *("What is the capital of Spain?", "What is not the capital of France?"),
    )
    monkeypatch.setattr(services, "open_embedding", lambda *_args: model)
    return model


async def asked(c: corral.Corral, oracle: Oracle, *prompts: str, **fields: Any) -> list[str]:
    """The answers to prompts, each in a thread of its own."""
    return [(await c.run(prompt, options(oracle, **fields))).output for prompt in prompts]


async def test_a_prompt_that_means_the_same_has_the_same_answer(
    settings: Settings, meanings: Meanings
) -> None:
    oracle, alike = Oracle(), meanings.alike
    async with corral.open(caching(settings, mode="semantic")) as c:
        first = await c.run(alike[0], options(oracle))
        again = await c.run(alike[1], options(oracle))
        told = await answer_of(c, again.run)
        assert await asked(c, oracle, "How is bread baked?") == ["Answer 2."]
    assert again.output == first.output
    assert told["cache"] == "semantic"
    found = told["facts"]["cache"]
    assert found["run"] == first.run
    assert alike[0] not in canonical(told), "what another thread was asked goes with that thread"
    assert 0.99 < found["similarity"] < 1


async def test_another_name_or_a_not_is_never_the_same(
    settings: Settings, meanings: Meanings
) -> None:
    oracle = Oracle()
    async with corral.open(caching(settings, mode="semantic")) as c:
        assert len(set(await asked(c, oracle, *meanings.alike[1:]))) == 3


async def test_only_the_same_agent_can_have_a_similar_answer(
    settings: Settings, meanings: Meanings
) -> None:
    oracle = Oracle()
    async with corral.open(caching(settings, mode="semantic")) as c:
        await asked(c, oracle, meanings.alike[0])
        await asked(c, oracle, meanings.alike[1], instructions="Answer in French.")
        await asked(c, oracle, meanings.alike[1], sampling={"temperature": 0, "max_tokens": 5})
    assert len(oracle.asked) == 3


async def test_a_threshold_says_how_similar_is_the_same(
    settings: Settings, meanings: Meanings
) -> None:
    oracle = Oracle()
    async with corral.open(caching(settings, mode="semantic", threshold=1.0)) as c:
        await asked(c, oracle, *meanings.alike[:2])
    assert len(oracle.asked) == 2


async def test_without_vectors_only_the_very_same_request_is_known(
    settings: Settings, meanings: Meanings
) -> None:
    oracle, meanings.broken = Oracle(), True
    async with corral.open(caching(settings, mode="semantic")) as c:
        await asked(c, oracle, meanings.alike[0], meanings.alike[1], meanings.alike[0])
    assert len(oracle.asked) == 2


async def test_a_similar_answer_of_what_may_not_be_shown_is_not_given(
    settings: Settings, meanings: Meanings
) -> None:
    oracle = Oracle()
    private = Label(("the user's diary",), readers=frozenset(), confidential=True)
    async with corral.open(caching(settings, mode="semantic")) as c:
        first = await c.run(meanings.alike[0], options(oracle))
        value = canonical({**await answer_of(c, first.run), KEY: private.to_json()})
        await c.records.database.write(
            lambda connection: connection.execute(
                update(effects).where(effects.c.kind == "model").values(result=value)
            )
        )
        await asked(c, oracle, meanings.alike[1])
    assert len(oracle.asked) == 2


async def test_a_hosted_model_does_not_compare_what_it_must_not_see(settings: Settings) -> None:
    own = settings.model_copy(
        update={
            "cache": CacheSettings(mode="semantic", embedding="openai:text-embedding-3-small"),
            "redaction": RedactionSettings(hosted=("email",)),
        }
    )
    async with corral.open(own) as c:
        with pytest.raises(ConfigError, match="must not see"):
            await c.run("What is it?", options(Oracle()))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("What is the capital of France?", "Which city is France's capital?", True),
        ("France is where?", "Spain is where?", False),
        ("Delete the files.", "Do not delete the files.", False),
        ("Is 6*7 = 42?", "Is 6*8 = 42?", False),
        ("Read notes.txt", "Read notes.md", False),
        ("Does Ann like Bob?", "Does Bob like Ann?", False),
        ("I don\u2019t know", "I don't know", True),
    ],
)
def test_names_numbers_and_negations_have_to_be_the_same(one: str, other: str, same: bool) -> None:
    assert (marks(one) == marks(other)) is same
