"""Exports: what comes back from a file on another machine is the run that went into it."""

from __future__ import annotations

import io
import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langgraph.graph import END, START, MessagesState, StateGraph
from sqlalchemy import select

import corral
from corral.agents.exchange import export_file, replay_file
from corral.errors import ConfigError, ConflictError, UsageError
from corral.jsontypes import digest
from corral.policies.budgets import Budget
from corral.runtime.approvals.answers import Signed
from corral.runtime.config import Settings
from corral.runtime.export import forms, lines
from corral.runtime.export.files import writing
from corral.runtime.export.jsonl import Exported, write_jsonl
from corral.runtime.export.lines import LineReader
from corral.runtime.tables import runs
from tests.runtime.agents import Ledger, scripted, turn
from tests.runtime.exports import Records, exported, imported, opened, rich_exports, sealed


@pytest.fixture
def elsewhere(tmp_path: Path) -> Settings:
    """Another machine, as far as a database can tell."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    return corral.load_settings({"home": tmp_path / "other", "workspace": folder})


async def test_a_run_comes_back_as_it_went(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    files = await rich_exports(settings)
    async with corral.open(settings) as c:
        for content in files.values():
            run = next(one for one in opened(content) if one["type"] == "run")["id"]
            assert await exported(c, run) == content, "a run is exported to the same bytes"
    async with corral.open(elsewhere) as c:
        for name, content in files.items():
            found = await imported(c, tmp_path / f"{name}.jsonl", content)
            assert (found.new, found.run) == (True, found.id_in_file)
            report = await c.replay(found.run)
            assert report.status == "identical", (name, report.divergence)
            view = await c.records.run(found.run)
            assert view.origin is not None
            if name != "fork":  # its past has another id here: the real one was imported before
                assert await exported(c, found.run) == content
        threads = await c.records.threads()
        assert {thread.workspace for thread in threads} == {str(elsewhere.workspace)}
        assert len(threads) == len(files)


async def test_the_trace_is_the_same_elsewhere(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    files = await rich_exports(settings)
    run = opened(files["fork"])[2]["id"]
    async with corral.open(settings) as c:
        before = [effect.to_json() for effect in await c.records.trace(run)]
        view = await c.records.run(run)
    async with corral.open(elsewhere) as c:
        await imported(c, tmp_path / "fork.jsonl", files["fork"])
        after = [effect.to_json() for effect in await c.records.trace(run)]
        other = await c.records.run(run)
    # The ids of the parent's agree too: nothing here had them before.
    assert after == before
    kept = ("status", "prompt", "output", "usage", "steps", "started_at", "fork_at", "parent")
    assert [getattr(other, name) for name in kept] == [getattr(view, name) for name in kept]


async def test_a_fork_goes_without_what_its_parent_did_later(settings: Settings) -> None:
    ledger = Ledger()
    agent = scripted(
        [turn("Now.", pay={"amount": 5}), turn("A secret of the parent.")], *ledger.tools()
    )
    rules = [{"tool": "functions__*", "action": "allow"}]
    own = corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )
    async with corral.open(own) as c:
        parent = await c.run("Pay.", corral.RunOptions(agent=agent))
        fork = await c.fork(
            parent.run,
            corral.Fork(at=3, result="nothing was paid"),
            corral.RunOptions(
                agent=scripted([turn("x"), turn("It was not paid.")], *ledger.tools())
            ),
        )
        content = await exported(c, fork.run)
    assert b"nothing was paid" in content
    assert b"secret of the parent" not in content
    assert b"paid 5" not in content


async def test_an_imported_run_is_forked_and_not_resumed(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    ledger = Ledger()
    asking = scripted([turn("I pay.", pay={"amount": 5}), turn("Paid.")], *ledger.tools())
    async with corral.open(settings) as c:
        paused = await c.run("Pay 5.", corral.RunOptions(agent=asking))
        assert paused.status == "paused"
        content = await exported(c, paused.run)
    async with corral.open(elsewhere) as c:
        found = await imported(c, tmp_path / "run.jsonl", content)
        assert found.status == "paused"
        assert await c.approvals() == []
        (question,) = await c.records.approvals(run=found.run, status=None)
        with pytest.raises(ConflictError, match="was imported"):
            await c.approve(question.id)
        with pytest.raises(ConflictError, match="was imported") as refused:
            await c.resume(found.run, corral.RunOptions(agent=asking))
        assert "corral fork" in refused.value.hint
        with pytest.raises(ConflictError, match="was imported"):
            await c.run("Go on.", corral.RunOptions(agent=asking, thread=found.thread))
        assert (await c.replay(found.run)).status == "identical"
        trace = await c.records.trace(found.run)
        tool = next(effect for effect in trace if effect.kind == "approval")
        model = max(effect.seq for effect in trace if effect.seq < tool.seq)
        again = scripted([turn("I do not pay.")], *ledger.tools())
        fork = await c.fork(found.run, corral.Fork(at=model), corral.RunOptions(agent=again))
        assert (fork.status, fork.output) == ("completed", "I do not pay.")
        assert (await c.replay(fork.run)).status == "identical"
        # And what was made here of an import can travel on.
        report = await _replayed(c, fork.run, tmp_path / "again.jsonl")
        assert report.status == "identical", report.divergence
    assert ledger.paid == []


async def _replayed(c: corral.Corral, run: str, path: Path) -> corral.ReplayReport:
    path.write_bytes(await exported(c, run))
    return replay_file(path)


async def test_an_import_grants_nothing(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    """A stranger's tools are not trusted, nor a policy or limits taken over from a file."""
    made: list[int] = []

    @corral.tool(read_only=True)
    def peek() -> str:
        """Peek."""
        return "nothing"

    def pay(amount: int) -> str:
        """Pay."""
        made.append(amount)
        return "paid"

    agent = scripted([turn("I peek.", peek={}), turn("Seen.")], peek, pay)
    async with corral.open(settings) as c:
        run = (await c.run("Peek.", corral.RunOptions(agent=agent))).run
        records = opened(await exported(c, run))
    prepared = next(one for one in records if one.get("kind") == "prepare")
    for tool in prepared["result"]["tools"]:
        tool.update(read_only=True, trusted=True)
    _identified(records)
    path = tmp_path / "run.jsonl"
    async with corral.open(elsewhere) as c:
        found = await imported(c, path, sealed(records))
        paying = scripted([turn("x"), turn("I pay.", pay={"amount": 9}), turn("y")], peek, pay)
        fork = await c.fork(found.run, corral.Fork(at=4), corral.RunOptions(agent=paying))
        assert fork.status == "paused", "a call that may change things is still asked about"
        assert made == []
    records[1]["spec"]["policy"] = "workspace"
    async with corral.open(elsewhere) as c:
        with pytest.raises(ConfigError, match=r"line 2: run: spec.policy"):
            await imported(c, path, sealed(records))


def _identified(records: Records) -> None:
    """Give model calls the digests that go with the tools of the file."""
    prepared = next(one for one in records if one.get("kind") == "prepare")
    told: list[str] = []
    for effect in (one for one in records if one.get("kind") == "model"):
        request = {**effect["request"], "tools_digest": digest(prepared["result"]["tools"])[:16]}
        effect["request"] = dict(request)
        told += map(digest, request.pop("messages"))
        del request["after"]
        effect["digest"] = digest({**request, "messages": told})


async def test_imported_twice_is_harmless(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    files = await rich_exports(settings)
    async with corral.open(elsewhere) as c:
        first = await imported(c, tmp_path / "a.jsonl", files["fork"])
        second = await imported(c, tmp_path / "b.jsonl", files["fork"])
        assert (second.new, second.run, second.thread) == (False, first.run, first.thread)
        assert len(await c.records.runs()) == 2  # the fork, and its past
    async with corral.open(settings) as c:  # where it was made, its id is taken
        copy = await imported(c, tmp_path / "c.jsonl", files["older"])
        assert copy.new
        assert copy.run != copy.id_in_file
        assert (await c.replay(copy.run)).status == "identical"
        ids = [one.id for one in await c.records.approvals(status=None)]
        assert len(ids) == len(set(ids))


async def test_a_scrubbed_run_is_for_reading(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    secret = "heliotrope"
    ledger = Ledger()

    def tell(who: str, deep: dict[str, Any]) -> dict[str, str]:
        """Tell about heliotrope."""
        return {"heliotrope-key": f"heliotrope for {who}"}

    agent = scripted(
        [
            turn(f"I say {secret}.", tell={"who": secret, "deep": {f"{secret} key": [secret, 7]}}),
            turn(f"The answer is {secret}."),
        ],
        tell,
        *ledger.tools(),
        instructions=f"Always say {secret}.",
        description=f"Says {secret}.",
        facts=3,
    )
    rules = [{"tool": "functions__*", "action": "allow"}]
    own = corral.load_settings(
        {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    )
    target = io.BytesIO()
    async with corral.open(own) as c:
        result = await c.run(f"Say {secret}.", corral.RunOptions(agent=agent))
        assert result.status == "completed", result.error
        whole = await exported(c, result.run)
        await write_jsonl(c.records.database, Exported(result.run, scrubbed=True), target)
        trace = await c.records.trace(result.run)
    assert whole.count(secret.encode()) > 10
    scrubbed = target.getvalue()
    assert secret.encode() not in scrubbed
    for betraying in _digests(whole):
        assert betraying not in scrubbed
    async with corral.open(elsewhere) as c:
        found = await imported(c, tmp_path / "run.jsonl", scrubbed)
        assert found.scrubbed
        seen = await c.records.trace(found.run)
        for name in ("seq", "kind", "name", "status", "path", "input_tokens", "duration_ms"):
            assert [getattr(e, name) for e in seen] == [getattr(e, name) for e in trace]
        call = next(effect for effect in seen if effect.kind == "tool")
        assert isinstance(call.request, dict)
        assert call.request["args"]["who"] == "▒▒▒ 10 characters"
        for refused in (c.replay(found.run), c.fork(found.run, corral.Fork(at=2))):
            with pytest.raises(ConflictError, match="scrub"):
                await refused
        content = io.BytesIO()
        await write_jsonl(c.records.database, Exported(found.run, scrubbed=True), content)


def _digests(content: bytes) -> set[bytes]:
    """What could betray a text in a file: digests, and the ids of calls, which hold some."""
    found: set[str] = set()
    for record in opened(content):
        if record["type"] == "effect":
            request = record["request"]
            found |= {record["digest"], str(request.get("tools_digest") or record["digest"])}
            message = (record["result"] or {}).get("message") or {}
            found |= {call["id"] for call in message.get("tool_calls", ())}
        if record["type"] == "run":
            found |= set(record["code"]["functions"].values())
    return {one.encode() for one in found if one}


WRONG: list[tuple[Callable[[Records], object], str]] = [
    (lambda r: r[0].update(version=2, corral="9.1"), r"line 1: .* version 2 .*\(.* reads"),
    (lambda r: r[0].update(format="other"), "line 1: this is not the beginning"),
    (lambda r: r.pop(), r"line \d+: the file is cut off after this line"),
    (lambda r: r.clear(), "is empty"),
    (lambda r: r[-1].update(effects=99), "other effects or approvals than"),
    (lambda r: r[2].update(seq=0), "line 3: effect: seq: "),
    (lambda r: r[2].update(path="../../etc"), "line 3: effect: path: is not a place"),
    (lambda r: r[2].update(path="1.a[x]#0"), "line 3: effect: path: is not a place"),
    (lambda r: r[3].update(path=r[2]["path"]), "line 4: a second effect stands at"),
    (lambda r: r[3]["request"].update(after=3), "line 4: effect 2 follows the effect 3"),
    (lambda r: r[2].update(kind="__import__"), "line 3: effect: kind: "),
    (lambda r: r[1].update(id="../x"), "line 2: run: id: "),
    (lambda r: r[1]["spec"].update(agent={"nope": 1}), "the agent cannot be understood"),
    (lambda r: r[1].update(fork={"at": 1, "changes": {}}), "fork and its past must stand"),
    (lambda r: r[0].update(scrubbed=True), "line 3: the file is said to be scrubbed"),
    (lambda r: r[1].update(prompt="\ud800"), "half a surrogate pair"),
    (lambda r: r.append(r[2]), "effect cannot follow end"),
]
"""What is changed in the file of a run, and what is said about it."""


async def test_what_is_wrong_is_said(settings: Settings, tmp_path: Path) -> None:
    path = tmp_path / "run.jsonl"
    async with corral.open(settings) as c:
        run = (await c.run("Hello.", corral.RunOptions(agent=scripted([turn("Hello.")])))).run
        content = await exported(c, run)
        for change, said in WRONG:
            records = opened(content)
            change(records)
            with pytest.raises(ConfigError, match=said) as refused:
                await imported(c, path, _sealed_as_it_is(records))
            assert refused.value.message.startswith(str(path))
            assert refused.value.hint
        assert len(await c.records.runs()) == 1


def _sealed_as_it_is(records: list[dict[str, Any]]) -> bytes:
    """``sealed`` for texts too that no writer would write."""
    text = json.dumps(records)
    if "\\ud800" not in text:
        return sealed(records)
    whole = sealed(json.loads(text.replace("\\ud800", "HALF")))
    return _resummed(whole.replace(b"HALF", b"\\ud800"))


def _resummed(content: bytes) -> bytes:
    last, done = lines._START, []
    for line in content.splitlines():
        rest = line[lines._HEAD_LENGTH :]
        last = lines._sum(last, rest)
        done.append(b'{"sum":"%s",%s\n' % (last.encode(), rest))
    return b"".join(done)


def _read(content: bytes) -> None:
    for _ in LineReader(io.BytesIO(content), "it"):
        pass


def test_the_limits_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    good = sealed([{"type": "header"}, {"type": "x", "value": "y" * 50}])
    _read(good)
    for name, value, said in (
        ("MAX_LINE", 120, r"it, line 2: the line is longer than 120 bytes"),
        ("MAX_SIZE", 130, r"it, line 2: the file is larger than 130 bytes"),
        ("MAX_LINES", 1, r"it, line 2: the file has more than 1 lines"),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(lines, name, value)
            with pytest.raises(ConfigError, match=said):
                _read(good)
    deep: Any = "x"
    for _ in range(lines.MAX_DEPTH):
        deep = [deep]
    with pytest.raises(ConfigError, match="nested deeper than 100"):
        sealed([{"type": "x", "value": deep}])
    for levels in (lines.MAX_DEPTH, 100_000):
        nested = b'{"sum":"%s","type":"x","value":%s1%s}\n' % (
            b"0" * 64,
            b"[" * levels,
            b"]" * levels,
        )
        with pytest.raises(ConfigError, match="line 1: the JSON is nested deeper than 100"):
            _read(_resummed(nested))


async def test_the_number_of_effects_is_bounded(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with corral.open(settings) as c:
        run = (await c.run("Hello.", corral.RunOptions(agent=scripted([turn("Hello.")])))).run
        content = await exported(c, run)
        monkeypatch.setattr(forms, "MAX_EFFECTS", 1)
        with pytest.raises(ConfigError, match="line 4: the file has more than 1 effects"):
            await imported(c, tmp_path / "run.jsonl", content)


async def test_a_state_that_is_no_data_is_refused(settings: Settings) -> None:
    class Odd(MessagesState):
        odd: set[int]

    def build(kit: corral.Kit) -> Any:
        async def only(state: Odd) -> dict[str, Any]:
            return {"messages": [await kit.ask(state["messages"])], "odd": {1, 2}}

        graph = StateGraph(Odd)
        graph.add_node("only", only)
        graph.add_edge(START, "only")
        graph.add_edge("only", END)
        return graph

    agent = scripted([turn("One.")], graph=build)
    async with corral.open(settings) as c:
        first = await c.run("One.", corral.RunOptions(agent=agent))
        assert first.status == "completed", first.error
        again = scripted([turn("Two.")], graph=build)
        second = await c.run("Two.", corral.RunOptions(agent=again, thread=first.thread))
        assert await exported(c, first.run)
        with pytest.raises(UsageError, match="holds a set in 'odd', which is no JSON"):
            await export_file(c, second.run, io.BytesIO(), corral.RunOptions(agent=again))


async def test_a_test_holds_an_agent_to_its_run(settings: Settings, tmp_path: Path) -> None:
    agent = scripted([turn("Hello.")], instructions="Be kind.")
    async with corral.open(settings) as c:
        run = (await c.run("Hello?", corral.RunOptions(agent=agent))).run
        path = tmp_path / "run.jsonl"
        path.write_bytes(await exported(c, run))
    # Called inside of an event loop, as by a test that is asynchronous.
    assert replay_file(path).status == "identical"
    assert replay_file(path, corral.RunOptions(agent=agent)).status == "identical"
    other = scripted([turn("Hello.")], instructions="Be rude.")
    report = replay_file(path, corral.RunOptions(agent=other))
    assert report.status == "diverged"
    assert report.divergence is not None
    assert '-   "content": "Be kind.",' in report.divergence
    assert '+   "content": "Be rude.",' in report.divergence


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with pytest.raises(TypeError), writing(path) as target:
        target.writelines([b"half", "no bytes"])  # type: ignore[list-item]  # fails half way
    assert list(tmp_path.iterdir()) == []
    with writing(path) as target:
        target.write(b"one")
    with pytest.raises(ConflictError, match="is there already"), writing(path):
        pass
    with writing(path, force=True) as target:
        target.write(b"two")
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]
    assert stat.S_ISREG(path.lstat().st_mode)
    with pytest.raises(UsageError, match="cannot be written"), writing(tmp_path / "no" / "x"):
        pass
    with pytest.raises(ConflictError, match="is no file"), writing(tmp_path, force=True):
        pass


async def asked_and_answered(settings: Settings) -> bytes:
    """An export of a run with a tag and a question that somebody called Ann has answered."""
    ledger = Ledger()
    agent = scripted([turn("I pay.", pay={"amount": 5}), turn("Paid.")], *ledger.tools())
    budget = Budget(tokens=50_000)
    options = corral.RunOptions(agent=agent, tags=("rent of Ann",), budget=budget)
    async with corral.open(settings) as c:
        paused = await c.run("Pay Ann.", options)
        (question,) = paused.approvals
        await c.records.answer(question.id, corral.Approved(), Signed("user:ann"))
        await c.resume(paused.run, options)
        return await exported(c, paused.run)


async def test_a_question_is_seen_elsewhere_as_it_was_asked_and_answered(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    content = await asked_and_answered(settings)
    assert str(settings.workspace).encode() not in content
    async with corral.open(settings) as c:
        (before,) = await c.records.approvals(status=None)
        assert before.context["budgets"][0]["limit"] == 50_000
    async with corral.open(elsewhere) as c:
        found = await imported(c, tmp_path / "run.jsonl", content)
        (question,) = await c.records.approvals(run=found.run, status=None)
        assert question.answered_by == "user:ann"
        for part in ("agents", "spent", "limits", "budgets", "read", "tool"):
            assert question.context[part] == before.context[part], part
        assert question.context["rule"]["label"] == before.context["rule"]["label"]
        assert not question.context.keys() & {"facts", "suggestions"}
        assert await exported(c, found.run) == content
        row = await c.records.database.read(lambda k: k.execute(select(runs.c.tags)).scalar())
        assert json.loads(str(row)) == ["rent of Ann"]


async def test_an_export_of_before_has_neither_context_nor_tags(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    old = opened(await asked_and_answered(settings))
    for record in old:
        for name in ("context", "answered_by", "tags"):
            record.pop(name, None)
    async with corral.open(elsewhere) as c:
        found = await imported(c, tmp_path / "old.jsonl", sealed(old))
        (question,) = await c.records.approvals(run=found.run, status=None)
        assert (question.context, question.answered_by) == ({}, None)
        assert (await c.replay(found.run)).status == "identical"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("context", {"agents": 5}),
        ("context", {"agents": [{"agent": "a", "task": "b", "more": 1}]}),
        ("context", {"facts": {"workspace": "/"}}),
        ("context", {"suggestions": [{"rule": {}, "words": ""}]}),
        ("context", {"budgets": [{"account": "run", "words": "x"}]}),
        ("context", {"spent": {"steps": "many"}}),
        ("context", {"hosts": ["h"] * 10_001}),
        ("context", []),
        ("answered_by", 5),
        ("answered_by", "x" * 3000),
    ],
)
async def test_what_a_stranger_says_of_a_question_is_held_to_its_form(
    settings: Settings, elsewhere: Settings, tmp_path: Path, name: str, value: Any
) -> None:
    records = opened(await asked_and_answered(settings))
    next(one for one in records if one["type"] == "approval")[name] = value
    async with corral.open(elsewhere) as c:
        with pytest.raises(ConfigError, match=name):
            await imported(c, tmp_path / "run.jsonl", sealed(records))
        assert await c.records.runs() == []


async def test_a_scrubbed_question_says_neither_who_nor_what(
    settings: Settings, elsewhere: Settings, tmp_path: Path
) -> None:
    await asked_and_answered(settings)
    async with corral.open(settings) as c:
        run = (await c.records.run("last")).run
        target = io.BytesIO()
        await write_jsonl(c.records.database, Exported(run, scrubbed=True), target)
    content = target.getvalue()
    assert b"Ann" not in content
    assert b"ann" not in content.replace(b"channel", b"")
    async with corral.open(elsewhere) as c:
        found = await imported(c, tmp_path / "run.jsonl", content)
        (question,) = await c.records.approvals(run=found.run, status=None)
        assert question.answered_by == "user"
        assert question.context["budgets"][0]["limit"] == 50_000
        assert question.context["agents"][0]["task"].startswith("\u2592")
