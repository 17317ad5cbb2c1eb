"""Commands with many options: they are the fields of a dataclass, declared as typer's are."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

R = TypeVar("R")
Fields = TypeVar("Fields")


def taking(options: type[Fields]) -> Callable[[Callable[[str, Fields], R]], Callable[..., R]]:
    """A command of one argument and ``options``, as a function that typer can read.

    The argument may have a default. Every field of the dataclass ``options`` has a default and an
    ``Annotated`` type with a ``typer.Option``.
    """

    def decorate(command: Callable[[str, Fields], R]) -> Callable[..., R]:
        argument = next(iter(inspect.signature(command).parameters))

        def called(**given: Any) -> R:
            return command(given.pop(argument), options(**given))

        own = get_type_hints(command, include_extras=True)
        hints = {argument: own[argument], **get_type_hints(options, include_extras=True)}
        defaults = {field.name: field.default for field in dataclasses.fields(options)}  # type: ignore[arg-type]  # a dataclass: see the docstring
        defaults[argument] = inspect.signature(command).parameters[argument].default
        parameters = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=defaults.get(name, inspect.Parameter.empty),
                annotation=hint,
            )
            for name, hint in hints.items()
        ]
        called.__name__, called.__doc__ = command.__name__, command.__doc__
        called.__annotations__ = {**hints, "return": own.get("return", Any)}
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # what typer reads
        return called

    return decorate
