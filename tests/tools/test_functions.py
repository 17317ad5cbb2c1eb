"""Python functions as tools."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import threading
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from corral.errors import ConfigError, ToolServerError
from corral.tools.contract import CallOptions, ToolResult, ToolSpec
from corral.tools.functions import FunctionTools, tool
from corral.tools.schemas import validate_args
from tests.tools.support import OPTIONS


class Point(BaseModel):
    x: int
    label: str = ""


@dataclasses.dataclass
class Size:
    width: int


class Forecast(TypedDict):
    city: str
    degrees: list[float]


def provider(*functions: Callable[..., Any]) -> FunctionTools:
    return FunctionTools("fn", functions)


async def spec_of(function: Callable[..., Any]) -> ToolSpec:
    (spec,) = await provider(function).list_tools()
    return spec


async def result_of(function: Callable[..., Any], **args: Any) -> ToolResult:
    spec = await spec_of(function)
    return await provider(function).call(spec.tool, args, OPTIONS)


def weather(
    city: str,
    days: Annotated[int, Field(ge=1, le=7, description="How far ahead.")] = 1,
    unit: Literal["C", "F"] = "C",
    copy: Point | None = None,
) -> str:
    """The forecast for a city.

    It knows only large ones.

    Args:
        city: Its name
            in English.
        days: not used, the annotation wins
        unit (str): Celsius or Fahrenheit.

    Returns:
        Words.
    """
    return f"{city} {days} {unit} {copy}"


class TestDefinition:
    async def test_the_signature_is_the_schema(self) -> None:
        spec = await spec_of(weather)
        assert spec.name == "fn__weather"
        assert spec.description == "The forecast for a city.\n\nIt knows only large ones."
        properties = spec.input_schema["properties"]
        assert properties["city"] == {"type": "string", "description": "Its name in English."}
        assert properties["days"]["maximum"] == 7
        assert properties["days"]["description"] == "How far ahead."
        assert properties["unit"]["enum"] == ["C", "F"]
        assert properties["unit"]["description"] == "Celsius or Fahrenheit."
        assert spec.input_schema["required"] == ["city"]
        assert spec.input_schema["additionalProperties"] is False
        assert spec.output_schema is None

    async def test_the_other_docstring_style(self) -> None:
        def add(a: int, b: int) -> int:
            """Add.

            :param a: left
            :param b: right,
                on two lines
            :returns: the sum
            """
            return a + b

        properties = (await spec_of(add)).input_schema["properties"]
        assert properties["a"]["description"] == "left"
        assert properties["b"]["description"] == "right, on two lines"

    async def test_hints_are_the_user_s_own_and_trusted(self) -> None:
        @tool(name="look", read_only=True, open_world=False)
        def peek() -> str:
            return ""

        def touch() -> str:
            return ""

        marked, bare = await spec_of(peek), await spec_of(touch)
        assert marked.tool == "look"
        assert marked.repeatable
        assert not marked.open_world
        assert not bare.repeatable
        assert bare.destructive

    @pytest.mark.parametrize(
        ("function", "said"),
        [
            (lambda city: city, "has no type annotation"),
            (eval("lambda *args: 1"), "cannot be given by name"),
        ],
    )
    def test_lambdas_and_stars(self, function: Callable[..., Any], said: str) -> None:
        with pytest.raises(ConfigError, match=said):
            provider(tool(name="f")(function))

    def test_what_json_cannot_hold(self) -> None:
        def connect(to: socket.socket) -> str:
            return str(to)

        def opened() -> socket.socket:
            return socket.socket()

        def callback(then: Callable[[], None]) -> str:
            return str(then)

        def keywords(**rest: int) -> str:
            return str(rest)

        def default(at: object = threading.Lock()) -> str:
            return str(at)

        for function in (connect, opened, callback, keywords, default):
            with pytest.raises(ConfigError, match=function.__name__) as caught:
                provider(function)
            assert caught.value.hint

    def test_two_of_one_name_and_impossible_names(self) -> None:
        with pytest.raises(ConfigError, match="twice"):
            provider(weather, weather)
        with pytest.raises(ConfigError, match="letters, digits"):
            provider(lambda: "x")


class TestCalling:
    async def test_sync_functions_run_in_a_thread_and_async_ones_do_not(self) -> None:
        def sync() -> int:
            return threading.get_ident()

        async def here() -> int:
            return threading.get_ident()

        own = threading.get_ident()
        assert (await result_of(sync)).structured != {"result": own}
        assert (await result_of(here)).structured == {"result": own}

    async def test_arguments_arrive_as_their_types(self) -> None:
        result = await result_of(weather, city="Rome", copy={"x": 1})
        assert result.text == "Rome 1 C x=1 label=''"

    async def test_bad_arguments_are_explained(self) -> None:
        result = await result_of(weather, days=9, more=1)
        assert result.is_error
        for field in ("city", "days", "more"):
            assert f"- {field}: " in result.text

    async def test_what_comes_back_is_structured(self) -> None:
        def model() -> Point:
            return Point(x=1)

        def record() -> Size:
            return Size(2)

        def typed() -> Forecast:
            return {"city": "Rome", "degrees": [1.5]}

        def many() -> list[Point]:
            return [Point(x=1)]

        def nothing() -> None:
            return None

        for function, expected in (
            (model, {"x": 1, "label": ""}),
            (record, {"width": 2}),
            (typed, {"city": "Rome", "degrees": [1.5]}),
            (many, {"result": [{"x": 1, "label": ""}]}),
            (nothing, None),
        ):
            spec, result = await spec_of(function), await result_of(function)
            assert result.structured == expected
            assert not result.is_error
            if spec.output_schema is not None:
                output = ToolSpec("fn", "out", "", spec.output_schema)
                assert isinstance(result.structured, dict)
                assert validate_args(output, result.structured) is None

    async def test_a_function_that_breaks_its_promise(self) -> None:
        def lies() -> int:
            return "three"  # type: ignore[return-value]  # that is what is tested

        result = await result_of(lies)
        assert result.is_error
        assert "not what its signature promises" in result.text

    async def test_what_it_raises_is_told_without_a_traceback(self) -> None:
        def fails() -> str:
            raise LookupError("no such city")

        result = await result_of(fails)
        assert (result.text, result.is_error) == ("LookupError: no such city", True)

    async def test_its_own_timeout_is_its_own_error(self) -> None:
        async def slow() -> str:
            raise TimeoutError("the database is slow")

        assert "the database is slow" in (await result_of(slow)).text

    async def test_one_that_takes_too_long(self) -> None:
        stopped = asyncio.Event()

        async def slow() -> str:
            try:
                await asyncio.Event().wait()
            finally:
                stopped.set()
            return ""

        with pytest.raises(ToolServerError, match="may or may not have happened"):
            await provider(slow).call("slow", {}, CallOptions("key", timeout=0.05))
        assert stopped.is_set()

    async def test_no_such_function(self) -> None:
        assert (await provider(weather).call("wheather", {}, OPTIONS)).is_error
