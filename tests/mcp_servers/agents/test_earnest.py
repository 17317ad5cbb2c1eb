"""Agents and tools by the protocol: with servers in the sandbox, as tasks, with sub-agents."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import corral
from corral.agents.hosting.local import LocalRuns
from corral.mcp_servers.agents.service import AgentService, Offering, Waits
from corral.mcp_servers.serving.callers import TASKS
from corral.mcp_servers.serving.layer import Layer
from corral.runtime.config import Settings, load_settings
from tests.mcp_servers.serving.service import ELICITS, KEY, Line, connected_to, envelope
from tests.tools.asking import ERAS, Asking
from tests.tools.support import until

WAITS = Waits(usual=50, longest=50, reading=0.0)
"""Here nobody looks at how fast the human is."""

YES, NO = {"allow": True}, {"allow": False}
WITH_TASKS = envelope(extensions={TASKS: {}}, **ELICITS)


def agent(folder: Path, name: str, turns: list[dict[str, Any]], **fields: Any) -> dict[str, Any]:
    """An agent as in the settings, that answers with ``turns``."""
    script = folder / f"{name}.yaml"
    script.write_text(json.dumps(turns))
    return {"model": f"scripted:{script}", "facts": 0, "servers": (), **fields}


@asynccontextmanager
async def client(
    settings: Settings, offering: Offering, meta: dict[str, Any]
) -> AsyncIterator[Line]:
    async with corral.open(settings) as c, LocalRuns.open(c) as runs:
        service = AgentService(runs, offering, WAITS)
        async with connected_to(Layer(service, KEY), meta) as line:
            yield line


async def said(line: Line, tool: str, **args: Any) -> dict[str, Any]:
    """What a call gave, whatever it is."""
    answer = await line.call(tool, arguments=args)
    assert "result" in answer, answer
    found: dict[str, Any] = answer["result"]
    return found


async def answered(
    line: Line, tool: str, args: dict[str, Any], values: dict[str, Any]
) -> list[str]:
    """Call a tool and answer all that it asks in rounds; the questions, and what came at last."""
    asked: list[str] = []
    more: dict[str, Any] = {}
    while True:
        answer = await line.call(tool, arguments=args, **more)
        result = answer["result"]
        if "inputRequests" not in result:
            return [*asked, json.dumps(result["structuredContent"])]
        requests = result["inputRequests"]
        asked += [one["params"]["message"] for one in requests.values()]
        yes = {"action": "accept", "content": values}
        more = {
            "requestState": result["requestState"],
            "inputResponses": dict.fromkeys(requests, yes),
        }


async def state(line: Line, task: str, *wanted: str) -> dict[str, Any]:
    """The task when it has come so far."""
    async with asyncio.timeout(60):
        while True:
            found: dict[str, Any] = (await line.ask("tasks/get", taskId=task))["result"]
            if found["status"] in wanted:
                return found


class TestEverythingServed:
    """``serve all`` with a server in the sandbox: the policy decides what is offered and asked."""

    def settings(self, home: Path, workspace: Path) -> Settings:
        rules = [
            {"tool": "files__write_file", "action": "ask"},
            {"tool": "files__delete_file", "action": "deny"},
            {"tool": "files__read_*", "action": "allow"},
        ]
        given = {"home": home, "workspace": workspace, "servers": ("files",), "rules": rules}
        return load_settings(given)

    @pytest.mark.parametrize("allow", [True, False])
    async def test_what_is_asked_is_done_after_a_yes_only(
        self, own_home: Path, workspace: Path, allow: bool
    ) -> None:
        settings = self.settings(own_home, workspace)
        async with client(settings, Offering.of("all"), envelope(**ELICITS)) as line:
            args = {"path": "tea.txt", "content": "Tea is at four."}
            question, end = await answered(line, "files__write_file", args, YES if allow else NO)
            assert "files__write_file" in question
            assert "Tea is at four." in question
            told = json.loads(end)
            assert (workspace / "tea.txt").exists() is allow
            if not allow:
                assert "declined by a human through mine" in end
                return
            assert told["status"] == "completed"
            read = await said(line, "files__read_file", path="tea.txt")
            assert "Tea is at four." in read["structuredContent"]["answer"]

    async def test_what_is_denied_is_not_there(self, own_home: Path, workspace: Path) -> None:
        (workspace / "keep.txt").write_text("kept")
        settings = self.settings(own_home, workspace)
        async with client(settings, Offering.of("all"), envelope(**ELICITS)) as line:
            tools = {tool["name"] for tool in (await line.ask("tools/list"))["result"]["tools"]}
            assert {"files__write_file", "files__read_file"} <= tools
            assert "files__delete_file" not in tools
            refused = await line.call("files__delete_file", arguments={"path": "keep.txt"})
            assert refused["error"]["code"] == -32602
        assert (workspace / "keep.txt").read_text() == "kept"


async def test_a_message_of_a_client_that_takes_tasks_is_a_task(
    own_home: Path, workspace: Path, tmp_path: Path
) -> None:
    turns = [{"text": "First."}]
    slow = [{"text": "Never said.", "delay": 3600}]
    agents = {"quick": agent(tmp_path, "quick", turns), "slow": agent(tmp_path, "slow", slow)}
    settings = load_settings({"home": own_home, "workspace": workspace, "agents": agents})
    async with client(settings, Offering(), WITH_TASKS) as line:
        first = (await said(line, "quick", prompt="Begin."))["structuredContent"]
        quick = await said(line, "run_send", run=first["run"], message="And?")
        assert quick["structuredContent"]["status"] == "completed", "it is answered at once"
        begun = await said(line, "slow", prompt="Work.")
        assert begun["resultType"] == "task"
        queued = await said(line, "run_send", run=begun["taskId"], message="Then this.")
        assert queued["resultType"] == "task"
        assert queued["taskId"] != begun["taskId"]
        again = await said(line, "run_send", run=begun["taskId"], message="Then this.")
        assert again["taskId"] == queued["taskId"], "the same message is one run"
        assert (await state(line, queued["taskId"], "working"))["statusMessage"]
        stands = await said(line, "run_status", run=queued["taskId"])
        assert stands["structuredContent"]["status"] == "queued"
        for task in (queued["taskId"], begun["taskId"]):
            assert (await line.ask("tasks/cancel", taskId=task))["result"] is not None
            await state(line, task, "cancelled")


STANDS = """
import subprocess, sys
subprocess.run([sys.executable, "-c", "import time; time.sleep(1000)", "{token}"])
"""


async def test_a_cancelled_task_ends_what_a_sub_agents_tool_has_started(
    own_home: Path, workspace: Path, tmp_path: Path
) -> None:
    token = f"corral-sub-agent-{os.getpid()}"
    call = {"name": "python__run_code", "args": {"code": STANDS.format(token=token)}}
    give = {"name": "agents__helper", "args": {"task": "Help."}}
    agents = {
        "lead": agent(
            tmp_path, "lead", [{"tool_calls": [give]}, {"text": "D"}], agents=("helper",)
        ),
        "helper": agent(
            tmp_path, "helper", [{"tool_calls": [call]}, {"text": "D"}], servers=("python",)
        ),
    }
    given = {"home": own_home, "workspace": workspace, "agents": agents, "policy": "trusted"}
    settings = load_settings(given)
    async with client(settings, Offering(), WITH_TASKS) as line:
        begun = await said(line, "lead", prompt="Work.")
        assert begun["resultType"] == "task", begun
        await until(lambda: runs_with(token), 60)
        await line.ask("tasks/cancel", taskId=begun["taskId"])
        await state(line, begun["taskId"], "cancelled")
        await until(lambda: not runs_with(token), 60)


def runs_with(token: str) -> bool:
    """Whether a process has the token in its command line, as what it runs."""
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_text().split("\0")
            except (OSError, UnicodeDecodeError):
                continue
            if token in words:
                return True
    return False


def with_asking(settings: Settings, era: str, worker: dict[str, Any], **entry: Any) -> Settings:
    """Settings with the server that asks, and one agent that uses it."""
    asking = Asking.of(settings, era, **entry)
    servers = {name: one.model_dump() for name, one in asking.settings.mcp.items()}
    rule = {"server": "ask", "action": "allow", "untrusted": True}
    given = {"home": settings.home, "workspace": settings.workspace, "mcp": servers}
    return load_settings({**given, "rules": [rule], "agents": {"worker": worker}})


@pytest.mark.parametrize("era", ERAS)
class TestSamplingAtALimit:
    """A tool's server asks a model, and the budget has no room: a human decides in the middle."""

    def settings(self, settings: Settings, folder: Path, era: str) -> Settings:
        usage = {"usage": {"input_tokens": 575, "output_tokens": 20}}
        turns: list[dict[str, Any]] = [
            {"tool_calls": [{"name": "ask__sample", "args": {}}], **usage},
            {"text": "Hello, server.", **usage},
            {"text": "All is sampled.", **usage},
        ]
        worker = agent(folder, "worker", turns, servers=("ask",), budget={"tokens": 600})
        return with_asking(settings, era, worker, sampling=True)

    async def test_a_yes_of_the_clients_human_lets_the_server_have_its_answer(
        self, settings: Settings, tmp_path: Path, era: str
    ) -> None:
        given = self.settings(settings, tmp_path, era)
        async with client(given, Offering(), envelope(**ELICITS)) as line:
            *asked, end = await answered(line, "worker", {"prompt": "Sample."}, YES)
        told = json.loads(end)
        assert (told["status"], told["answer"]) == ("completed", "All is sampled."), told
        assert "limit" in asked[0]
        async with corral.open(given) as c:
            trace = await c.records.trace(told["run"])
        assert [one.kind for one in trace].count("model") == 3
        assert "Hello, server." in json.dumps([one.result for one in trace if one.kind == "tool"])

    async def test_a_no_ends_it(self, settings: Settings, tmp_path: Path, era: str) -> None:
        given = self.settings(settings, tmp_path, era)
        async with client(given, Offering(), envelope(**ELICITS)) as line:
            *asked, end = await answered(line, "worker", {"prompt": "Sample."}, NO)
        told = json.loads(end)
        assert len(asked) == 1
        assert told["status"] == "stopped", told
        async with corral.open(given) as c:
            trace = await c.records.trace(told["run"])
        assert [one.kind for one in trace].count("model") == 1, "the server had no answer"


@pytest.mark.parametrize("era", ERAS)
async def test_a_server_that_asks_in_the_middle_of_a_call_is_answered_by_the_clients_human(
    settings: Settings, tmp_path: Path, era: str
) -> None:
    """Before 2026-07-28 a server's call is held meanwhile, and the run goes on."""
    call = {"name": "ask__delete", "args": {}}
    turns: list[dict[str, Any]] = [{"tool_calls": [call]}, {"text": "Deleted."}]
    given = with_asking(settings, era, agent(tmp_path, "worker", turns, servers=("ask",)))
    values = {"name": "Ann", "sure": True}
    async with client(given, Offering(), envelope(**ELICITS)) as line:
        asked, end = await answered(line, "worker", {"prompt": "Delete."}, values)
    told = json.loads(end)
    assert "Whose is it?" in asked
    assert (told["status"], told["answer"]) == ("completed", "Deleted."), told
    assert '"name": "Ann"' in " ".join(told["happened"])
