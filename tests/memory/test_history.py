from __future__ import annotations

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from corral.memory.history import NOT_EXECUTED, repair


def ask(*ids: str, text: str = "") -> AIMessage:
    return AIMessage(text, tool_calls=[{"name": "a__b", "args": {}, "id": i} for i in ids])


def tool(number: str, text: str = "ok") -> ToolMessage:
    return ToolMessage(text, tool_call_id=number, name="a__b")


def kinds(messages: list[BaseMessage]) -> list[str]:
    return [f"tool {m.tool_call_id}" if isinstance(m, ToolMessage) else m.type for m in messages]


def test_a_sound_history_is_left_alone() -> None:
    messages = [HumanMessage("hi"), ask("1", "2"), tool("1"), tool("2"), AIMessage("done")]
    assert repair(messages) == messages


def test_a_dangling_call_is_answered_as_not_executed() -> None:
    messages = [HumanMessage("hi"), ask("1", "2"), tool("2"), HumanMessage("never mind")]
    repaired = repair(messages)
    assert kinds(repaired) == ["human", "ai", "tool 1", "tool 2", "human"]
    synthetic = repaired[2]
    assert isinstance(synthetic, ToolMessage)
    assert synthetic.text == NOT_EXECUTED
    assert (synthetic.status, synthetic.name) == ("error", "a__b")
    assert len(messages) == 4


def test_a_result_that_came_after_a_message_moves_to_its_call() -> None:
    messages = [ask("1"), HumanMessage("and?"), tool("1", "late")]
    repaired = repair(messages)
    assert kinds(repaired) == ["ai", "tool 1", "human"]
    assert repaired[1].text == "late"


def test_orphans_and_second_results_are_dropped() -> None:
    messages = [tool("0"), ask("1"), tool("1", "first"), tool("1", "second"), tool("9")]
    repaired = repair(messages)
    assert kinds(repaired) == ["ai", "tool 1"]
    assert repaired[1].text == "first"


def test_an_id_used_again_belongs_to_the_later_call() -> None:
    repaired = repair([ask("1"), HumanMessage("x"), ask("1"), tool("1", "second")])
    assert kinds(repaired) == ["ai", "tool 1", "human", "ai", "tool 1"]
    assert [m.text for m in repaired if isinstance(m, ToolMessage)] == [NOT_EXECUTED, "second"]


def test_calls_that_did_not_parse_and_empty_messages_are_dropped() -> None:
    broken = AIMessage(
        [
            {"type": "text", "text": "Trying."},
            {"type": "tool_use", "id": "bad", "name": "a__b", "input": "{"},
        ],
        invalid_tool_calls=[
            {"type": "invalid_tool_call", "name": "a__b", "args": "{", "id": "bad", "error": None}
        ],
        additional_kwargs={"tool_calls": [{"id": "bad"}], "refusal": None},
    )
    repaired = repair([HumanMessage("hi"), AIMessage(""), broken, tool("bad")])
    assert kinds(repaired) == ["human", "ai"]
    message = repaired[1]
    assert isinstance(message, AIMessage)
    assert message.content == [{"type": "text", "text": "Trying."}]
    assert message.invalid_tool_calls == []
    assert message.additional_kwargs == {"refusal": None}
    assert repair(repaired) == repaired
