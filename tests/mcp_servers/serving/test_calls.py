"""Calls of tools, questions to a human, tasks, resources: what a client is told."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from corral.mcp_servers.serving.callers import TASKS
from tests.mcp_servers.serving.service import (
    ELICITS,
    SECRET,
    GatedService,
    connected,
    envelope,
)

ADDED = {"left": 1, "right": 2}
WITH_TASKS = envelope(extensions={TASKS: {}})
ASKING = envelope(**ELICITS)


def said(answer: dict[str, Any]) -> str:
    result = answer["result"]
    assert result.get("isError"), answer
    text: str = result["content"][0]["text"]
    return text


class TestArguments:
    @pytest.mark.parametrize(
        ("args", "words"),
        [
            ({}, ["left", "right", "required", "It takes: left (required), right (required)"]),
            ({"left": 1}, ["right"]),
            ({"left": "one", "right": 2}, ["left: expected", "integer", "one"]),
            ({**ADDED, "rigth": 3}, ["rigth", "Did you mean 'right'"]),
            ({"left": None, "right": [1]}, ["left", "right"]),
            ({**ADDED, "x" * 10_000: 1}, ["nothing was done"]),
        ],
    )
    async def test_wrong_ones_are_told_with_what_to_do(
        self, args: dict[str, Any], words: list[str]
    ) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            told = said(await client.call("add", arguments=args))
        assert all(word in told for word in words), told
        assert told.endswith("Correct them and call again.")
        assert len(told) < 3_000

    async def test_none_at_all_are_an_empty_object(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            assert "required" in said(await client.call("add"))

    async def test_a_tool_that_there_is_not(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            error = (await client.call("ad\x1b[2Jd", arguments={}))["error"]
        assert error["code"] == -32602
        assert "There are: add, ask" in error["message"]
        assert "\x1b" not in error["message"]

    @pytest.mark.parametrize("params", [{}, {"name": 7}, {"name": "add", "arguments": [1]}])
    async def test_what_is_no_call_is_a_protocol_error(self, params: dict[str, Any]) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            assert (await client.ask("tools/call", **params))["error"]["code"] == -32602


class TestErrors:
    async def test_a_crash_says_nothing_of_the_inside(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            told = said(await client.call("crash", arguments={}))
        assert "not your fault" in told
        assert SECRET not in told
        assert "/home" not in told

    @pytest.mark.parametrize("modern", [True, False])
    async def test_nor_does_one_that_is_no_call(
        self, modern: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def broken(*_: object) -> None:
            raise RuntimeError(SECRET)

        service = GatedService()
        monkeypatch.setattr(service, "resources", broken)
        async with connected(service, meta=envelope() if modern else None) as client:
            if not modern:
                await client.handshake()
            error = (await client.ask("resources/list"))["error"]
        assert error["code"] == -32603
        assert SECRET not in str(error)

    async def test_our_own_errors_come_with_their_hint(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            told = said(await client.call("refuse", arguments={}))
            assert told == "The run has ended. Start another one."
            error = (await client.ask("prompts/get", name="none"))["error"]
        assert (error["code"], error["message"]) == (-32602, "There is no prompt none.")

    async def test_there_is_one_page(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            error = (await client.ask("tools/list", cursor="2"))["error"]
        assert error["code"] == -32602


class TestProgress:
    async def test_it_only_increases(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            meta = {"progressToken": "p"}
            await client.send("tools/call", name="progress", arguments={}, meta=meta)
            told = [await client.receive() for _ in range(3)]
        assert [one["params"]["progress"] for one in told[:2]] == [1, 2]
        assert "result" in told[2]

    async def test_it_is_not_told_to_who_has_not_asked(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            await client.send("tools/call", name="progress", arguments={})
            assert "result" in await client.receive()


class TestPushedQuestions:
    async def asked(self, client: Any) -> int:
        await client.handshake(elicitation={})
        await client.send("tools/call", name="ask", arguments={})
        request = await client.receive()
        assert request["method"] == "elicitation/create"
        assert request["params"]["message"] == "May it?"
        number: int = request["id"]
        return number

    async def answer(self, client: Any, number: int, **body: Any) -> dict[str, Any]:
        message = {"jsonrpc": "2.0", "id": number, **body}
        await client.write(json.dumps(message).encode() + b"\n")
        answer: dict[str, Any] = await client.receive()
        return answer

    async def test_an_answer_comes_with_the_time_it_took(self) -> None:
        service = GatedService()
        async with connected(service) as client:
            number = await self.asked(client)
            result = {"action": "accept", "content": {"allow": True}}
            answer = await self.answer(client, number, result=result)
        assert answer["result"]["content"][0]["text"] == "accept"
        assert service.answered[0].content == {"allow": True}
        assert service.answered[0].seconds >= 0

    @pytest.mark.parametrize(
        "body",
        [
            {"result": {"action": "accept", "content": {"allow": "yes"}}},
            {"result": {"action": "accept"}},
            {"result": {"action": "approve"}},
            {"result": {}},
            {"error": {"code": -32601, "message": "not here"}},
        ],
    )
    async def test_what_is_no_answer_is_none(self, body: dict[str, Any]) -> None:
        service = GatedService()
        async with connected(service) as client:
            number = await self.asked(client)
            answer = await self.answer(client, number, **body)
        assert said(answer) == "nobody answered"
        assert not service.answered

    async def test_nobody_answers_when_the_client_goes(self) -> None:
        service = GatedService()
        async with connected(service) as client:
            await self.asked(client)
        assert not service.answered

    async def test_who_declares_nothing_is_not_asked(self) -> None:
        service = GatedService()
        async with connected(service) as client:
            await client.handshake(elicitation={"url": {}})
            answer = await client.call("ask", arguments={})
        assert answer["error"]["code"] == -32021
        assert service.callers[0].asks == "none"


class TestRounds:
    async def first(self, client: Any) -> dict[str, Any]:
        result: dict[str, Any] = (await client.call("ask", arguments={}))["result"]
        assert result["resultType"] == "input_required"
        assert result["inputRequests"]["may"]["params"]["message"] == "May it?"
        return result

    async def second(self, client: Any, first: dict[str, Any], **answer: Any) -> dict[str, Any]:
        state = {"requestState": first["requestState"]}
        given = {"inputResponses": {"may": answer}, **state}
        second: dict[str, Any] = await client.call("ask", arguments={}, **given)
        return second

    async def test_the_answer_comes_back_with_the_time_it_took(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        service = GatedService()
        async with connected(service, meta=ASKING) as client:
            first = await self.first(client)
            now = time.time()
            monkeypatch.setattr("time.time", lambda: now + 90)
            await self.second(client, first, action="accept", content={"allow": False})
        assert service.answered[0].content == {"allow": False}
        assert 89 < service.answered[0].seconds < 150

    async def test_another_process_with_the_same_key_goes_on(self) -> None:
        async with connected(GatedService(), meta=ASKING) as client:
            first = await self.first(client)
        service = GatedService()
        async with connected(service, meta=ASKING) as client:
            await self.second(client, first, action="decline")
        assert service.answered[0].action == "decline"

    async def test_an_answer_that_does_not_fit_is_asked_for_again(self) -> None:
        service = GatedService()
        async with connected(service, meta=ASKING) as client:
            first = await self.first(client)
            for content in ({"allow": "yes"}, {}, None):
                again = await self.second(client, first, action="accept", content=content)
                assert again["result"]["resultType"] == "input_required"
        assert not service.answered

    async def test_the_state_is_sealed_for_this_client_tool_and_time(self) -> None:
        service = GatedService()
        async with connected(service, meta=ASKING) as client:
            state = (await self.first(client))["requestState"]
            assert "approval" not in state
            given = {"may": {"action": "accept", "content": {"allow": True}}}
            for params in (
                {"name": "ask", "requestState": state[:-4] + "AAAA"},
                {"name": "add", "requestState": state},
                {"name": "ask", "requestState": state, "arguments": {"more": 1}},
                {"name": "ask", "requestState": state, "meta": envelope("other", **ELICITS)},
                {"name": "ask", "requestState": "approval-1"},
            ):
                answer = await client.ask(
                    "tools/call", **{"arguments": {}, **params}, inputResponses=given
                )
                assert answer["error"]["data"] == {"reason": "invalid_request_state"}
        assert not service.answered

    async def test_answers_without_state_do_not_count(self) -> None:
        service = GatedService()
        async with connected(service, meta=ASKING) as client:
            given = {"may": {"action": "accept", "content": {"allow": True}}}
            answer = await client.call("ask", arguments={}, inputResponses=given)
        assert answer["result"]["resultType"] == "input_required"
        assert not service.answered


class TestTasks:
    async def test_a_call_can_become_one(self) -> None:
        async with connected(GatedService(), meta=WITH_TASKS) as client:
            result = (await client.call("work", arguments={}))["result"]
        assert (result["resultType"], result["taskId"], result["ttlMs"]) == ("task", "task-1", None)

    async def test_who_does_not_know_them_is_told(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            for answer in (
                await client.call("work", arguments={}),
                await client.ask("tasks/get", taskId="task-1"),
            ):
                assert answer["error"]["code"] == -32021
                assert TASKS in answer["error"]["data"]["requiredCapabilities"]["extensions"]

    async def test_in_the_handshake_era_there_are_none(self) -> None:
        async with connected(GatedService()) as client:
            await client.handshake(extensions={TASKS: {}})
            answer = await client.ask("tasks/get", taskId="task-1")
        assert answer["error"]["code"] == -32601

    @pytest.mark.parametrize("method", ["tasks/get", "tasks/update", "tasks/cancel"])
    async def test_anothers_is_as_if_there_were_none(self, method: str) -> None:
        async with connected(GatedService(), meta=WITH_TASKS) as client:
            none = await client.ask(method, taskId="task-2")
            theirs = {"meta": envelope("other", extensions={TASKS: {}})}
            others = await client.ask(method, taskId="task-1", **theirs)
        assert none["error"] == others["error"]
        assert none["error"]["code"] == -32602

    async def test_only_answers_that_fit_an_open_question_count(self) -> None:
        service = GatedService()
        async with connected(service, meta=WITH_TASKS) as client:
            for given in (
                {"may": 7},
                {"may": {"action": "accept"}},
                {"more": {"action": "accept"}},
            ):
                await client.ask("tasks/update", taskId="task-1", inputResponses=given)
            assert not service.answered
            good = {"may": {"action": "accept", "content": {"allow": True}}}
            await client.ask("tasks/update", taskId="task-1", inputResponses=good)
        assert [one.content for one in service.answered] == [{"allow": True}]

    async def test_an_answer_has_taken_as_long_as_its_client_had_the_question(self) -> None:
        """However long the task had waited before: a client shows nothing that it has not got."""
        service = GatedService()
        good = {"may": {"action": "accept", "content": {"allow": True}}}
        async with connected(service, meta=WITH_TASKS) as client:
            for _ in range(2):
                asked = (await client.ask("tasks/get", taskId="task-1"))["result"]
            assert list(asked["inputRequests"]) == ["may"]
            await client.ask("tasks/update", taskId="task-1", inputResponses=good)
        # Another process has shown it: for this one the task's own time is all that is known.
        async with connected(service, meta=WITH_TASKS) as client:
            await client.ask("tasks/update", taskId="task-1", inputResponses=good)
        here, elsewhere = service.answered
        assert here.seconds < 3_600
        assert elsewhere.seconds > 3_600


class TestResources:
    @pytest.mark.parametrize(
        "uri",
        [
            "note://../../etc/passwd",
            "note://a/%2e%2e/%2e%2e/b",
            "note://a/%252e%252e/b",
            "note://a\\..\\b",
            "note://a%00b",
            "note://a\nb",
            "note://" + "x" * 5_000,
            "file:///etc/passwd",
        ],
    )
    @pytest.mark.parametrize("modern", [True, False])
    async def test_an_address_that_climbs_out_is_not_there(self, uri: str, modern: bool) -> None:
        async with connected(GatedService(), meta=envelope() if modern else None) as client:
            if not modern:
                await client.handshake()
            error = (await client.ask("resources/read", uri=uri))["error"]
        assert error["code"] == (-32602 if modern else -32002)
        assert len(str(error)) < 1_000

    async def test_a_plain_one_is_read(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            result = (await client.ask("resources/read", uri="note://a..b/c%20d"))["result"]
        assert result["contents"][0]["text"] == "read note://a..b/c%20d"

    async def test_completions_are_at_most_a_hundred(self) -> None:
        async with connected(GatedService(), meta=envelope()) as client:
            ref = {"type": "ref/resource", "uri": "note://{name}"}
            argument = {"name": "name", "value": "n"}
            result = (await client.ask("completion/complete", ref=ref, argument=argument))["result"]
        assert len(result["completion"]["values"]) == 100
        assert result["completion"]["total"] == 150
        assert result["completion"]["hasMore"]


class TestCallers:
    @pytest.mark.parametrize(
        ("name", "owner"),
        [
            ("claude-ai", "stdio:claude-ai"),
            ("", "stdio:unknown"),
            ("a\x1b[31m\nb", "stdio:a b"),
            ("x" * 5_000, "stdio:" + "x" * 79 + "…"),
        ],
    )
    async def test_the_owner_is_the_clients_name_in_plain_words(
        self, name: str, owner: str
    ) -> None:
        service = GatedService()
        async with connected(service, meta=envelope(name)) as client:
            await client.call("add", arguments=ADDED)
        async with connected(service) as client:
            await client.handshake(name)
            await client.call("add", arguments=ADDED)
        assert [caller.owner for caller in service.callers] == [owner, owner]
