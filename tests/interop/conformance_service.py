"""What the official conformance suite wants of a server, as a ``Service`` of Corral's layer.

The names and texts are the suite's. What it wants beyond the contract is in
``conformance-expected.yml``, with the reason.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import mcp_types as types

from corral.errors import NotFoundError, UsageError
from corral.mcp_servers.serving.contract import (
    AskFirst,
    AsTask,
    Caller,
    Elicited,
    Exchange,
    Identity,
    Listed,
    NoAnswer,
    Question,
    TaskState,
)
from corral.mcp_servers.serving.tasks import missing
from tests.interop.conformance_tasks import FixtureTasks, confirm_delete, multi_input

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJg"
    "gg=="
)
WAV = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAEAfAAABAAgAZGF0YQAAAAA="

Handler = Callable[[Caller, dict[str, Any], Exchange], Awaitable[types.CallToolResult | AsTask]]

_NAME = Question(
    "What is your name?",
    {
        "type": "object",
        "properties": {"name": {"type": "string"}},
        "required": ["name"],
    },
)
_OK = Question(
    "Please confirm",
    {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
    },
)
_COLOUR = Question(
    "Step 2: What is your favorite color?",
    {
        "type": "object",
        "properties": {"color": {"type": "string"}},
        "required": ["color"],
    },
)

DEFAULTS = {
    "name": {"type": "string", "default": "John Doe"},
    "age": {"type": "integer", "default": 30},
    "score": {"type": "number", "default": 95.5},
    "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
    "verified": {"type": "boolean", "default": True},
}
_THREE = ["option1", "option2", "option3"]
_TITLED = [{"const": f"value{n}", "title": f"{name} Option"} for n, name in enumerate("ABC", 1)]
ENUMS = {
    "untitledSingle": {"type": "string", "enum": _THREE},
    "titledSingle": {"type": "string", "oneOf": _TITLED},
    "legacyEnum": {
        "type": "string",
        "enum": ["opt1", "opt2", "opt3"],
        "enumNames": ["Option One", "Option Two", "Option Three"],
    },
    "untitledMulti": {"type": "array", "items": {"type": "string", "enum": _THREE}},
    "titledMulti": {"type": "array", "items": {"anyOf": _TITLED}},
}
_WHO = {
    "username": {"type": "string", "description": "User's response"},
    "email": {"type": "string", "description": "User's email address"},
}

JSON_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def text(said: str, *, is_error: bool = False) -> types.CallToolResult:
    return types.CallToolResult(content=[types.TextContent(text=said)], is_error=is_error)


def _resource(uri: str, mime: str, said: str) -> types.EmbeddedResource:
    return types.EmbeddedResource(
        resource=types.TextResourceContents(uri=uri, mime_type=mime, text=said)
    )


_PICTURE = types.ImageContent(data=PNG, mime_type="image/png")
_CONTENT: dict[str, list[types.ContentBlock]] = {
    "test_simple_text": [types.TextContent(text="This is a simple text response for testing.")],
    "test_image_content": [_PICTURE],
    "test_audio_content": [types.AudioContent(data=WAV, mime_type="audio/wav")],
    "test_embedded_resource": [
        _resource("test://embedded-resource", "text/plain", "This is an embedded resource content.")
    ],
    "test_multiple_content_types": [
        types.TextContent(text="Multiple content types test:"),
        _PICTURE,
        _resource(
            "test://mixed-content-resource", "application/json", '{"test":"data","value":123}'
        ),
    ],
}


class ConformanceService:
    """Implements ``contract.Service``."""

    def __init__(self) -> None:
        self.kept = FixtureTasks()
        self._tools: dict[str, tuple[types.Tool, Handler]] = {}
        for name, content in _CONTENT.items():
            self._add(name, _always(types.CallToolResult(content=content)))
        self._add_plain()
        self._add_asking()
        self._add_tasks()

    @property
    def identity(self) -> Identity:
        return Identity("corral-conformance", "Conformance", "1.0", "For the conformance suite.")

    def _add(
        self,
        name: str,
        handler: Handler,
        properties: dict[str, Any] | None = None,
        schema: dict[str, Any] | None = None,
    ) -> None:
        made = {"type": "object", "properties": properties or {}, "required": [*(properties or ())]}
        tool = types.Tool(name=name, description=f"{name}.", input_schema=schema or made)
        self._tools[name] = (tool, handler)

    def _add_plain(self) -> None:
        self._add(
            "test_error_handling",
            _always(text("This tool intentionally returns an error for testing", is_error=True)),
        )
        self._add("test_tool_with_progress", _progress)
        self._add("json_schema_2020_12_tool", _always(text("ok")), schema=JSON_SCHEMA)
        header = {"region": {"type": "string", "x-mcp-header": "Region"}}
        self._add("test_custom_header", _always(text("ok")), header)
        self._add("test_logging_tool", _always(text("a server of Corral's sends no logs")))
        self._add("test_missing_capability", _needs_sampling)
        self._add("test_trigger_tool_change", self._change("tools"))
        self._add("test_trigger_prompt_change", self._change("prompts"))
        self._add("greet", _greet, {"name": {"type": "string"}})

    def announce_by(self, announce: Callable[[Listed], Awaitable[None]]) -> None:
        self._announce = announce

    def _change(self, listed: Listed) -> Handler:
        async def handler(caller: Caller, args: object, exchange: Exchange) -> types.CallToolResult:
            await self._announce(listed)
            return text("changed")

        return handler

    def _add_asking(self) -> None:
        self._add("test_elicitation", _push_who, {"message": {"type": "string"}})
        self._add("test_elicitation_sep1034_defaults", _push_form(DEFAULTS))
        self._add("test_elicitation_sep1330_enums", _push_form(ENUMS))
        self._add("test_input_required_result_elicitation", _rounds({"user_name": _NAME}))
        self._add("test_streaming_elicitation", _rounds({"user_name": _NAME}))
        self._add("test_input_required_result_request_state", _rounds({"confirm": _OK}))
        self._add("test_input_required_result_tampered_state", _rounds({"confirm": _OK}))
        self._add("test_input_required_result_multi_round", _two_rounds)

    def _add_tasks(self) -> None:
        number = {"type": "number"}
        schema = {
            "type": "object",
            "properties": {"seconds": number, "label": {"type": "string"}},
            "required": ["seconds"],
        }
        self._add("slow_compute", self._slow_compute, schema=schema)
        self._add("failing_job", self._failing_job)
        self._add("protocol_error_job", self._protocol_error_job)
        self._add("confirm_delete", self._confirm_delete, {"filename": {"type": "string"}})
        self._add("multi_input", self._multi_input)
        self._add("test_tool_with_task", self._round_then_task)

    async def tools(self, caller: Caller) -> Sequence[types.Tool]:
        return [tool for tool, _ in self._tools.values()]

    async def call(
        self, caller: Caller, tool: str, args: dict[str, Any], exchange: Exchange
    ) -> types.CallToolResult | AsTask:
        return await self._tools[tool][1](caller, args, exchange)

    async def _slow_compute(
        self, caller: Caller, args: dict[str, Any], exchange: Exchange
    ) -> types.CallToolResult | AsTask:
        async def work(_: object) -> types.CallToolResult:
            await asyncio.sleep(args["seconds"])
            return text(f"{args.get('label', '')} done after {args['seconds']}s")

        if not caller.takes_tasks:
            return await work(None)
        return AsTask(self.kept.begin(caller, work))

    async def _failing_job(
        self, caller: Caller, args: dict[str, Any], exchange: Exchange
    ) -> AsTask:
        async def work(_: object) -> types.CallToolResult:
            await asyncio.sleep(0.2)
            return text("the job failed", is_error=True)

        return AsTask(self.kept.begin(caller, work))

    async def _protocol_error_job(
        self, caller: Caller, args: dict[str, Any], exchange: Exchange
    ) -> AsTask:
        async def work(_: object) -> types.CallToolResult:
            await asyncio.sleep(0.1)
            raise RuntimeError("a secret of the inside")

        return AsTask(self.kept.begin(caller, work))

    async def _confirm_delete(
        self, caller: Caller, args: dict[str, Any], exchange: Exchange
    ) -> AsTask:
        return AsTask(self.kept.begin(caller, confirm_delete(args["filename"])))

    async def _multi_input(
        self, caller: Caller, args: dict[str, Any], exchange: Exchange
    ) -> AsTask:
        return AsTask(self.kept.begin(caller, multi_input))

    async def _round_then_task(
        self, caller: Caller, args: dict[str, Any], exchange: Exchange
    ) -> AsTask:
        if "user_name" not in exchange.answers:
            raise AskFirst({"user_name": _NAME}, "asked")
        name = exchange.answers["user_name"].content["name"]

        async def work(_: object) -> types.CallToolResult:
            await asyncio.sleep(0.1)
            return text(f"Hello, {name}!")

        return AsTask(self.kept.begin(caller, work))

    async def task(self, caller: Caller, task: str) -> TaskState:
        return self.kept.find(caller, task).state()

    async def answer_task(self, caller: Caller, task: str, answers: dict[str, Elicited]) -> None:
        self.kept.find(caller, task).answer(answers)

    async def cancel_task(self, caller: Caller, task: str) -> None:
        self.kept.find(caller, task).cancel()

    async def resources(self, caller: Caller) -> Sequence[types.Resource]:
        return [
            types.Resource(uri="test://static-text", name="text", mime_type="text/plain"),
            types.Resource(uri="test://static-binary", name="binary", mime_type="image/png"),
        ]

    async def templates(self, caller: Caller) -> Sequence[types.ResourceTemplate]:
        return [types.ResourceTemplate(uri_template="test://template/{id}/data", name="template")]

    async def read(
        self, caller: Caller, uri: str
    ) -> Sequence[types.TextResourceContents | types.BlobResourceContents]:
        match uri.split("/"):
            case ["test:", "", "static-text"]:
                said = "This is the content of the static text resource."
                return [types.TextResourceContents(uri=uri, mime_type="text/plain", text=said)]
            case ["test:", "", "static-binary"]:
                return [types.BlobResourceContents(uri=uri, mime_type="image/png", blob=PNG)]
            case ["test:", "", "template", key, "data"]:
                data = {"id": key, "templateTest": True, "data": f"Data for ID: {key}"}
                said = json.dumps(data)
                return [
                    types.TextResourceContents(uri=uri, mime_type="application/json", text=said)
                ]
            case _:
                raise NotFoundError("There is no such resource.", hint="List them.")

    async def prompts(self, caller: Caller) -> Sequence[types.Prompt]:
        named = {
            "test_simple_prompt": (),
            "test_prompt_with_arguments": ("arg1", "arg2"),
            "test_prompt_with_embedded_resource": ("resourceUri",),
            "test_prompt_with_image": (),
        }
        return [
            types.Prompt(
                name=name,
                description=f"{name}.",
                arguments=[types.PromptArgument(name=one, required=True) for one in arguments],
            )
            for name, arguments in named.items()
        ]

    async def prompt(
        self, caller: Caller, name: str, args: dict[str, str]
    ) -> types.GetPromptResult:
        try:
            content = _prompt(name, args)
        except KeyError as error:
            raise UsageError(f"The argument {error} is missing.") from error
        return types.GetPromptResult(
            messages=[types.PromptMessage(role="user", content=one) for one in content]
        )

    async def complete(
        self,
        caller: Caller,
        ref: types.PromptReference | types.ResourceTemplateReference,
        argument: str,
        value: str,
    ) -> Sequence[str]:
        return [one for one in ("paris", "park", "party") if one.startswith(value)]


def _prompt(name: str, args: dict[str, str]) -> list[types.ContentBlock]:
    match name:
        case "test_simple_prompt":
            return [types.TextContent(text="This is a simple prompt for testing.")]
        case "test_prompt_with_arguments":
            said = f"Prompt with arguments: arg1='{args['arg1']}', arg2='{args['arg2']}'"
            return [types.TextContent(text=said)]
        case "test_prompt_with_embedded_resource":
            said = "Embedded resource content for testing."
            return [
                _resource(args["resourceUri"], "text/plain", said),
                types.TextContent(text="Please process the embedded resource above."),
            ]
        case "test_prompt_with_image":
            return [_PICTURE, types.TextContent(text="Please analyze the image above.")]
        case _:
            raise NotFoundError(f"There is no prompt {name}.")


def _always(result: types.CallToolResult) -> Handler:
    async def handler(caller: Caller, args: object, exchange: Exchange) -> types.CallToolResult:
        return result

    return handler


async def _greet(caller: Caller, args: dict[str, Any], exchange: Exchange) -> types.CallToolResult:
    return text(f"Hello, {args['name']}!")


async def _progress(
    caller: Caller, args: dict[str, Any], exchange: Exchange
) -> types.CallToolResult:
    for done in (0, 50, 100):
        await exchange.progress(done, 100, f"{done} of 100")
        await asyncio.sleep(0.02)
    return text("done")


async def _needs_sampling(caller: Caller, args: object, exchange: Exchange) -> types.CallToolResult:
    raise missing(sampling=types.SamplingCapability())


def _push_form(properties: dict[str, Any]) -> Handler:
    async def handler(caller: Caller, args: object, exchange: Exchange) -> types.CallToolResult:
        if caller.asks != "push":
            return text("your client cannot ask anybody", is_error=True)
        schema = {"type": "object", "properties": properties, "required": []}
        answer = await exchange.ask(Question("Please fill in", schema))
        said = json.dumps(answer.content)
        return text(f"Elicitation completed: action={answer.action}, content={said}")

    return handler


async def _push_who(
    caller: Caller, args: dict[str, Any], exchange: Exchange
) -> types.CallToolResult:
    if caller.asks != "push":
        return text("your client cannot ask anybody", is_error=True)
    schema = {"type": "object", "properties": _WHO, "required": [*_WHO]}
    try:
        answer = await exchange.ask(Question(args["message"], schema))
    except NoAnswer:
        return text("nobody answered", is_error=True)
    return text(f"User response: action={answer.action}, content={json.dumps(answer.content)}")


def _rounds(questions: dict[str, Question]) -> Handler:
    async def handler(caller: Caller, args: object, exchange: Exchange) -> types.CallToolResult:
        if exchange.state != "state-ok" or not questions.keys() <= exchange.answers.keys():
            raise AskFirst(questions, "state-ok")
        content = [dict(answer.content) for answer in exchange.answers.values()]
        return text(f"Hello, {content[0].get('name')}! state-ok")

    return handler


async def _two_rounds(caller: Caller, args: object, exchange: Exchange) -> types.CallToolResult:
    match exchange.state:
        case "2" if "step2" in exchange.answers:
            return text("done")
        case "1" | "2" if "step1" in exchange.answers or exchange.state == "2":
            raise AskFirst({"step2": _COLOUR}, "2")
        case _:
            raise AskFirst({"step1": _NAME}, "1")
