"""Personal data: what is redacted, what a hosted model is not shown, and what a project may say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.tool import ToolCallChunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import Field

import corral
from corral.errors import ConfigError
from corral.runtime.config import Settings
from corral.runtime.events import TextDelta
from tests.runtime.agents import result_of, scripted, turn

MAIL = "ann.smith@example.org"
OTHER = "bob@example.org"
CARD = "4111111111111111"


class Far(BaseChatModel):
    """A model on another machine: it keeps what it is shown, and answers in pieces."""

    answers: list[AIMessage]
    shown: list[str] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "far"

    def bind_tools(self, tools: Any, **_options: Any) -> Any:
        del tools
        return self

    def _generate(self, messages: list[BaseMessage], *_a: Any, **_k: Any) -> ChatResult:
        self.shown.append("\n".join(f"{one.content} {_calls(one)}" for one in messages))
        return ChatResult(generations=[ChatGeneration(message=self.answers.pop(0))])

    def _stream(self, messages: list[BaseMessage], *_a: Any, **_k: Any) -> Any:
        answer = self._generate(messages).generations[0].message
        assert isinstance(answer, AIMessage)
        text = str(answer.content)
        for at in range(0, len(text), 3):
            yield ChatGenerationChunk(message=AIMessageChunk(content=text[at : at + 3]))
        calls = [
            ToolCallChunk(name=c["name"], args=json.dumps(c["args"]), id=c["id"], index=index)
            for index, c in enumerate(answer.tool_calls)
        ]
        last = AIMessageChunk(content="", tool_call_chunks=calls, chunk_position="last")
        yield ChatGenerationChunk(message=last)


def _calls(message: BaseMessage) -> list[Any]:
    return [call["args"] for call in message.tool_calls] if isinstance(message, AIMessage) else []


def loaded(settings: Settings, **more: Any) -> Settings:
    rules = [
        {"tool": "functions__*", "action": "allow", "untrusted": True},
        {"tool": "functions__*", "action": "allow"},
    ]
    given = {"home": settings.home, "workspace": settings.workspace, "rules": rules}
    return corral.load_settings({**given, **more})


async def test_a_hosted_model_sees_stand_ins_and_everybody_else_the_values(
    settings: Settings,
) -> None:
    mailed: list[str] = []

    def mail(to: str) -> str:
        """Write a mail."""
        mailed.append(to)
        return f"Sent to {to}, with a copy to {OTHER}."

    far = Far(
        answers=[
            AIMessage(
                "I write to [withheld:email#1].",
                tool_calls=[
                    {"name": "functions__mail", "args": {"to": "[withheld:email#1]"}, "id": "1"}
                ],
            ),
            AIMessage("Done: [withheld:email#1] and [withheld:email#2], not [withheld:email#9]."),
        ]
    )
    agent = corral.Agent(
        servers=(),
        functions=(mail,),
        facts=0,
        chat_model=corral.HostedModel.from_langchain(far, "far"),
    )
    async with corral.open(loaded(settings, redaction={"hosted": ["email"]})) as c:
        events = [
            event async for event in c.stream(f"Write to {MAIL}.", corral.RunOptions(agent=agent))
        ]
        done = result_of(events)
        assert (await c.replay(done.run, corral.RunOptions(agent=agent))).status == "identical"
    assert done.status == "completed", done.error
    assert done.output == f"Done: {MAIL} and {OTHER}, not [withheld:email#9]."
    assert mailed == [MAIL]
    assert MAIL not in "".join(far.shown)
    assert OTHER not in "".join(far.shown)
    assert "Write to [withheld:email#1]." in far.shown[0]
    assert "withheld:email#1" not in str(events)
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert said == f"I write to {MAIL}.{done.output}"


async def test_a_stand_in_that_somebody_wrote_stands_for_nothing(settings: Settings) -> None:
    far = Far(answers=[AIMessage("[withheld:email#1] and [withheld:email#2]")])
    agent = corral.Agent(
        servers=(), facts=0, chat_model=corral.HostedModel.from_langchain(far, "far")
    )
    async with corral.open(loaded(settings, redaction={"hosted": ["email"]})) as c:
        done = await c.run(f"{MAIL} and [withheld:email#1]", corral.RunOptions(agent=agent))
    assert done.output == f"[withheld:email#1] and {MAIL}"


async def test_other_models_are_shown_everything(settings: Settings) -> None:
    agent = scripted([turn(f"Hello {MAIL}.")])
    async with corral.open(loaded(settings, redaction={"hosted": ["email"]})) as c:
        done = await c.run(f"I am {MAIL}.", corral.RunOptions(agent=agent))
    assert done.output == f"Hello {MAIL}."


async def test_what_is_redacted_is_a_setting(settings: Settings) -> None:
    async with corral.open(loaded(settings, redaction={"personal": ["email"]})) as c:
        done = await c.run(
            f"{MAIL} {CARD}", corral.RunOptions(agent=scripted([turn(f"{MAIL} {CARD}")]))
        )
    assert done.output.startswith("[redacted:email#")
    assert done.output.endswith(CARD)


PROJECT = """
[redaction]
personal = ["email"]
hosted = ["phone"]
reversible = false

[[checks]]
name = "theirs"
on = "output"
pattern = "x"
"""
USER = """
[redaction]
personal = ["iban"]
hosted = ["email"]

[[checks]]
name = "mine"
on = "output"
pattern = "y"
"""


def test_a_project_adds_to_what_its_user_has(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "own.toml"
    monkeypatch.setattr("corral.runtime.config.user_file", lambda: mine)
    (settings.workspace / "corral.toml").write_text(PROJECT)
    given = {"home": settings.home, "workspace": settings.workspace}
    alone = corral.load_settings(given)
    assert alone.redaction.personal == ("card", "iban", "national-id", "email")
    mine.write_text(USER)
    both = corral.load_settings(given)
    assert both.redaction.personal == ("iban", "email")
    assert both.redaction.hosted == ("email", "phone")
    assert not both.redaction.reversible
    assert [check.name for check in both.checks] == ["mine", "theirs"]


@pytest.mark.parametrize(
    "line", ['reveal_to = ["*"]', "reversible = true", "entropy = false", 'region = "DE"']
)
def test_a_project_cannot_loosen_anything(settings: Settings, line: str) -> None:
    (settings.workspace / "corral.toml").write_text(f"[redaction]\n{line}\n")
    with pytest.raises(ConfigError, match=r"may not set redaction\."):
        corral.load_settings({"home": settings.home, "workspace": settings.workspace})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[redaction]\npersonal = ["passport"]\n', "redaction.personal"),
        ("[redaction]\nreversibel = false\n", "reversible"),
        ('[[checks]]\nname = "a"\non = "output"\n', "needs one of"),
        ('[[checks]]\nname = "a"\non = "output"\npattern = "("\n', "no regular expression"),
    ],
)
def test_bad_settings_are_named(settings: Settings, text: str, message: str) -> None:
    (settings.workspace / "corral.toml").write_text(text)
    with pytest.raises(ConfigError) as error:
        corral.load_settings({"home": settings.home, "workspace": settings.workspace})
    assert message in str(error.value)


async def test_two_checks_of_one_name_are_refused(settings: Settings) -> None:
    one: dict[str, Any] = {"name": "a", "on": "output", "pattern": "x"}
    agent = scripted([], checks=[corral.Check(**{**one, "pattern": "y"})])
    async with corral.open(loaded(settings, checks=[one])) as c:
        with pytest.raises(ConfigError, match="same name"):
            await c.run("Hello.", corral.RunOptions(agent=agent))
