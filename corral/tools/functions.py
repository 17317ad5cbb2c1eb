"""Python functions as tools.

    @tool(read_only=True)
    def weather(city: str, days: int = 1) -> str:
        \"\"\"The forecast for a city.

        Args:
            city: Its name in English.
            days: How many days ahead.
        \"\"\"

The signature becomes the input schema, the docstring the description, the return annotation the
output schema. The functions are the user's own code: they run in this process, and their hints
are trusted.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeVar, get_type_hints
from weakref import WeakKeyDictionary

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind
from pydantic_core import PydanticSerializationError

from corral.errors import ConfigError, ToolServerError
from corral.jsontypes import JsonObject
from corral.tools.config import check_server_name
from corral.tools.contract import CallOptions, ToolResult, ToolSpec
from corral.tools.definitions import check_tools
from corral.tools.docstrings import parse_docstring
from corral.tools.text import one_line
from corral.tools.wire import Declared, Hints

F = TypeVar("F", bound=Callable[..., Any])

_ATTRIBUTE = "__corral_tool__"
_UNUSABLE = (PydanticSchemaGenerationError, PydanticInvalidForJsonSchema, PydanticUserError)


@dataclass(frozen=True)
class _Marks:
    """What the ``tool`` decorator leaves on a function."""

    name: str | None = None
    hints: Hints = field(default_factory=Hints)


def tool(
    *,
    name: str | None = None,
    read_only: bool | None = None,
    destructive: bool | None = None,
    idempotent: bool | None = None,
    open_world: bool | None = None,
) -> Callable[[F], F]:
    """Say what a function does to the world; without it the worst is assumed.

    ``read_only`` changes nothing, ``idempotent`` may be repeated without further effect,
    ``destructive=False`` only adds, ``open_world=False`` reaches nothing outside. ``name`` is the
    tool's name instead of the function's.
    """
    marks = _Marks(name, Hints(read_only, destructive, idempotent, open_world))

    def mark(function: F) -> F:
        setattr(function, _ATTRIBUTE, marks)
        return function

    return mark


class FunctionTools:
    """A ``ToolProvider`` over Python functions, sync or async.

    A sync function runs in a thread, which goes on when its call is cancelled. What a function
    raises becomes an error result with its text. Raises ``ConfigError`` for a function that
    cannot be a tool.
    """

    def __init__(self, name: str, functions: Sequence[Callable[..., Any]]) -> None:
        check_server_name(name)
        self._name = name
        made = [_Function(function, _Shape.of(function)) for function in functions]
        self._specs = _specs(name, tuple(one.shape for one in made))
        self._functions = {one.shape.declared.name: one for one in made}

    @property
    def name(self) -> str:
        """The provider's name, the part before ``__``."""
        return self._name

    async def list_tools(self) -> list[ToolSpec]:
        """The functions as tools, in the order in which they were given."""
        return list(self._specs)

    async def call(self, tool: str, args: JsonObject, options: CallOptions) -> ToolResult:
        """Call a function. Raises ``ToolServerError`` when it does not return in time."""
        function = self._functions.get(tool)
        if function is None:
            return ToolResult(f"{self._name} has no tool {one_line(tool)!r}.", is_error=True)
        limit = asyncio.timeout(options.timeout)
        try:
            async with limit:
                return await function.run(args)
        except TimeoutError:
            if not limit.expired():
                raise
            raise ToolServerError(
                f"{self._name} did not answer {tool} within {options.timeout:g} s. "
                "The call may or may not have happened.",
                hint="Raise the timeout if the function needs longer.",
            ) from None

    async def aclose(self) -> None:
        """Nothing to stop."""


@dataclass(frozen=True, eq=False)
class _Shape:
    """How a function is called: its declaration, and the models of what goes in and comes out."""

    declared: Declared
    arguments: type[BaseModel]
    output: TypeAdapter[Any] | None
    wrapped: bool

    @classmethod
    def of(cls, function: Callable[..., Any]) -> _Shape:
        """The shape of a function, which is made once for as long as the function lives."""
        if not inspect.isfunction(function):
            return cls._made(function)
        marks: _Marks | None = getattr(function, _ATTRIBUTE, None)
        known = _SHAPES.get(function)
        if known is None or known[0] != marks:
            known = _SHAPES[function] = (marks, cls._made(function))
        return known[1]

    @classmethod
    def _made(cls, function: Callable[..., Any]) -> _Shape:
        marks: _Marks = getattr(function, _ATTRIBUTE, _Marks())
        name = str(marks.name or getattr(function, "__name__", type(function).__name__))
        doc = parse_docstring(inspect.getdoc(function) or "")
        try:
            arguments = _arguments(function, name)
            schema = arguments.model_json_schema(schema_generator=_Schema)
            output = _output(function)
            produced = output and output.json_schema(mode="serialization", schema_generator=_Schema)
        except _UNUSABLE as error:
            _refuse(name, one_line(str(error).partition("\n")[0]).rstrip("."))
        wrapped = produced is not None and produced.get("type") != "object"
        if wrapped and produced is not None:
            produced = _wrap(produced)
        schema.pop("title", None)
        for parameter, text in doc.parameters.items():
            schema.get("properties", {}).get(parameter, {}).setdefault("description", text)
        declared = Declared(name, doc.summary, schema, produced, marks.hints)
        return cls(declared, arguments, output, wrapped)


_SHAPES: WeakKeyDictionary[Callable[..., Any], tuple[_Marks | None, _Shape]] = WeakKeyDictionary()


_SPECS: WeakKeyDictionary[_Shape, tuple[str, tuple[_Shape, ...], tuple[ToolSpec, ...]]] = (
    WeakKeyDictionary()
)
"""By the first of some functions: of which server, with which others, and as which tools."""


def _specs(server: str, shapes: tuple[_Shape, ...]) -> tuple[ToolSpec, ...]:
    """Functions as tools of a server, kept for as long as the first one lives."""
    if not shapes:
        return ()
    first, others = shapes[0], shapes[1:]
    known = _SPECS.get(first)
    if known is None or known[:2] != (server, others):
        known = _SPECS[first] = (server, others, _checked(server, shapes))
    return known[2]


def _checked(server: str, shapes: tuple[_Shape, ...]) -> tuple[ToolSpec, ...]:
    """Functions as tools of a server. Raises ``ConfigError``."""
    listing = check_tools(server, [shape.declared for shape in shapes], trusted=True)
    if listing.problems:
        raise ConfigError(
            f"A function cannot be a tool: {listing.problems[0]}.",
            hint="Give it another name with @tool(name=…), or simpler types.",
        )
    return listing.specs


@dataclass(frozen=True)
class _Function:
    """A function that can be called with the arguments of a model's."""

    call: Callable[..., Any]
    shape: _Shape

    async def run(self, args: JsonObject) -> ToolResult:
        """Check ``args``, call, and turn what comes back into a result."""
        try:
            given = self.shape.arguments.model_validate(args)
        except ValidationError as error:
            return ToolResult(_problems(self.shape.declared.name, error), is_error=True)
        values = {
            f.alias or n: getattr(given, n) for n, f in self.shape.arguments.model_fields.items()
        }
        try:
            value = await self._call(values)
        except Exception as error:  # noqa: BLE001 -- the user's code may raise anything
            return ToolResult(f"{type(error).__name__}: {error}", is_error=True)
        return self._result(value)

    async def _call(self, values: dict[str, Any]) -> Any:
        if inspect.iscoroutinefunction(self.call):
            return await self.call(**values)
        value = await asyncio.to_thread(self.call, **values)
        return await value if inspect.isawaitable(value) else value

    def _result(self, value: Any) -> ToolResult:
        if self.shape.output is None:
            return ToolResult("(no output)" if value is None else str(value))
        try:
            data = self.shape.output.dump_python(
                self.shape.output.validate_python(value), mode="json"
            )
        except (ValidationError, PydanticSerializationError) as error:
            why = one_line(str(error), 500)
            return ToolResult(
                f"{self.shape.declared.name} was called, but what it returned is not what its "
                f"signature promises: {why}",
                is_error=True,
            )
        text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        return ToolResult(text, structured={"result": data} if self.shape.wrapped else data)


class _Schema(GenerateJsonSchema):
    """JSON Schema for a model to read: no titles made of field names, no silent omissions."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never."""
        del schema
        return False

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        """What pydantic would only warn of makes the function unusable."""
        raise PydanticInvalidForJsonSchema(f"{kind}: {detail}")


def _arguments(function: Callable[..., Any], name: str) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    hints = _hints(function, name)
    for index, parameter in enumerate(inspect.signature(function).parameters.values()):
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            _refuse(name, f"{parameter} cannot be given by name")
        if parameter.name not in hints:
            _refuse(name, f"its parameter {parameter.name} has no type annotation")
        default = ... if parameter.default is parameter.empty else parameter.default
        # numbered fields: a parameter may be called `copy` or `_x`, a model's field may not
        alias = Field(default, alias=parameter.name)
        fields[f"p{index}"] = (hints[parameter.name], alias)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
    return create_model(name, __config__=config, **fields)


def _output(function: Callable[..., Any]) -> TypeAdapter[Any] | None:
    returned = _hints(function, "").get("return", Any)
    return None if returned in (Any, str, type(None), object) else TypeAdapter(returned)


def _hints(function: Callable[..., Any], name: str) -> dict[str, Any]:
    target = function if inspect.isroutine(function) else type(function).__call__
    try:
        return get_type_hints(target, include_extras=True)
    except (NameError, TypeError) as error:
        _refuse(name, f"an annotation cannot be read: {error}")


def _wrap(schema: JsonObject) -> JsonObject:
    """An object around a schema of another type, as MCP wants it; references stay at the root."""
    inner = dict(schema)
    outer: JsonObject = {"type": "object", "properties": {"result": inner}, "required": ["result"]}
    if "$defs" in inner:
        outer["$defs"] = inner.pop("$defs")
    return outer


def _problems(name: str, error: ValidationError) -> str:
    lines = [
        f"- {'.'.join(map(str, found['loc'])) or 'the whole'}: {found['msg']}"
        for found in error.errors(include_url=False, include_context=False)[:5]
    ]
    return "\n".join([f"The arguments do not fit {name}:", *lines])


def _refuse(name: str, why: str) -> NoReturn:
    raise ConfigError(
        f"The function {name} cannot be a tool: {why}.",
        hint="Give every parameter a type that JSON can hold, and use no *args or **kwargs.",
    )
