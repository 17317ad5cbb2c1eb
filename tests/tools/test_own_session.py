"""Our own servers are spoken to without the SDK, and are believed no more than others."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.errors import ToolServerError
from corral.sandbox.contract import Launch
from corral.tools.contract import CallOptions
from corral.tools.definitions import check_tools
from corral.tools.own_session import _page
from corral.tools.stdio import Command, StdioServer
from corral.tools.wire import Page
from tests.tools.support import OPTIONS, QUICK, lean, notes_in, until

MakeOwn = Callable[..., StdioServer]

LIAR = """
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    answer = {answer}
    told = {said}
    tools = [{{"name": f"lie{{n}}", "inputSchema": {{"type": "object"}}, **one}}
             for n, one in enumerate(told)]
    known = {{"server/discover": {{}}, "tools/list": {{"tools": tools}}}}
    if request["method"] in known:
        answer = {{"result": known[request["method"]]}}
    print(json.dumps({{"jsonrpc": "2.0", "id": request["id"], **answer}}), flush=True)
"""

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "$ref", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
REQUIRED = {"name": st.just("lie") | ANYTHING, "inputSchema": st.just({}) | ANYTHING}
OPTIONAL = dict.fromkeys(("outputSchema", "annotations", "title", "description"), ANYTHING)


@pytest.fixture
async def make() -> AsyncIterator[MakeOwn]:
    """Makes servers that are spoken to as our own, and are closed at the end."""
    async with AsyncExitStack() as stack:

        def made(
            mode: str = "plain", notes: Path | None = None, answer: str = "", said: str = "[{}]"
        ) -> StdioServer:
            liar = Launch(
                (sys.executable, "-S", "-E", "-c", LIAR.format(answer=answer, said=said)), {}
            )
            launch = liar if answer else lean(mode, notes)
            server = StdioServer("srv", Command(lambda: launch, is_ours=True), timing=QUICK)
            stack.push_async_callback(server.aclose)
            return server

        yield made


async def test_many_calls_share_one_process(make: MakeOwn, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    server = make("plain", notes)
    words = [str(number) for number in range(20)]
    calls = (server.call("echo", {"text": word}, OPTIONS) for word in words)
    assert [result.text for result in await asyncio.gather(*calls)] == words
    assert len(notes_in(notes)) == 1


async def test_one_that_dies_in_a_call_is_started_again(make: MakeOwn) -> None:
    server = make()
    with pytest.raises(ToolServerError, match="exited with code 3 while it ran die"):
        await server.call("die", {}, OPTIONS)
    assert (await server.call("echo", {"text": "hi"}, OPTIONS)).text == "hi"


async def test_one_that_does_not_start_says_why(make: MakeOwn) -> None:
    result = await make("broken").call("echo", {"text": "hi"}, OPTIONS)
    assert result.is_error
    assert "could not be started: it exited with code" in result.text


async def test_a_call_that_is_cancelled_is_cancelled_there(make: MakeOwn, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    server = make("plain", notes)
    call = asyncio.create_task(server.call("wait", {}, OPTIONS))
    await until(lambda: "waiting" in notes_in(notes))
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await until(lambda: "cancelled" in notes_in(notes))


async def test_progress_reaches_the_caller(make: MakeOwn) -> None:
    told = asyncio.Event()

    async def progress(done: float, total: float | None, message: str) -> None:
        told.set()

    call = asyncio.create_task(make().call("spam", {}, CallOptions("k", progress=progress)))
    await told.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ('{"result": {}}', "has no content"),
        ('{"result": {"content": "hi"}}', "has no content"),
        ('{"result": 5}', "not JSON-RPC"),
        ('{"error": "no"}', "not JSON-RPC"),
        ('{"error": {"code": -1, "message": "no"}}', "(-1): no"),
        ('{"result": {"content": [7, {"type": "text", "text": 8}]}}', "unknown kind"),
    ],
)
async def test_what_is_no_answer_is_said_to_be_none(make: MakeOwn, answer: str, said: str) -> None:
    result = await make(answer=answer).call("lie0", {}, OPTIONS)
    assert said in result.text


async def test_what_is_said_of_a_tool_in_a_wrong_shape_is_not_heard(make: MakeOwn) -> None:
    wrong: list[Any] = [7, [1], "x", True, None, {"readOnlyHint": "yes"}]
    places = ("annotations", "title", "description", "outputSchema", "icons", "_meta")
    said = [{place: one} for place in places for one in wrong]
    specs = await make(answer="{}", said=repr(said)).list_tools()
    assert len(specs) == len(said)
    for spec in specs:
        assert (spec.read_only, spec.destructive) == (False, True)
        assert spec.description in ("", "x")
        assert spec.output_schema in (None, {"readOnlyHint": "yes"})


@given(tool=st.fixed_dictionaries(REQUIRED, optional=OPTIONAL) | ANYTHING)
def test_no_list_of_tools_is_more_than_wrong(tool: Any) -> None:
    page = _page({"tools": [tool]})
    if isinstance(page, Page):
        listing = check_tools("srv", page.tools, trusted=False)
        assert len(listing.specs) + len(listing.problems) == 1
    else:
        assert "list of tools is none" in page.message


async def test_numbers_that_json_does_not_have_are_not_sent(make: MakeOwn) -> None:
    result = await make().call("echo", {"text": float("nan")}, OPTIONS)
    assert result.is_error
    assert "no JSON" in result.text
