r"""Patterns for the arguments of tool calls, which know what kind of value they are about.

    args.path    = "reports/**"                          # by the argument's name: a path
    args.url     = "https://*.example.com/api/**"
    args.command = ["git status *", "git diff *"]
    args.target  = {path = "reports/**"}                 # said, where the name does not say it
    args.amount  = {min = 1, max = 100}
    args.mode    = {one_of = ["fast", "safe"]}
    args.to      = {from_user = true}

A rule that loosens (``allow``) is matched strictly: a value that can be read in two ways fits no
pattern of it. One that tightens (``ask``, ``deny``) is matched loosely: such a value fits if any
reading of it does.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from corral.jsontypes import canonical
from corral.policies.facts import ToolCall
from corral.policies.patterns.commands import (
    CommandValue,
    command_value,
    is_command_name,
    matches_command_loosely,
    matches_command_strictly,
    parse_command_pattern,
)
from corral.policies.patterns.globs import compile_glob, escape
from corral.policies.patterns.patches import is_patch_name, patched_paths
from corral.policies.patterns.paths import is_path_name, matches_loosely, matches_strictly
from corral.policies.patterns.urls import (
    is_url_name,
    matches_url_loosely,
    matches_url_strictly,
    parse_url_pattern,
)
from corral.policies.provenance.verbatim import stands_in
from corral.policies.texts import texts_of

Kind = Literal["path", "url", "command", "text"]
Texts: TypeAlias = tuple[str, ...]


class ArgumentPattern(BaseModel):
    r"""What an argument must be. All that is named must hold.

    The short form is a text, or a list of texts of which one must fit: a pattern of the kind that
    the argument's name says (``path``, ``url``, ``command``, else ``text``). In a text ``*`` stands
    for any characters, ``?`` for one and ``\*`` for a star.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    short: Texts = Field(default=(), exclude=True, description="The short form.")
    path: Texts = Field(default=(), description="Patterns of paths in the workspace.")
    url: Texts = Field(default=(), description="Patterns of URLs: scheme, host, port and path.")
    command: Texts = Field(default=(), description="Patterns of commands, word by word.")
    text: Texts = Field(default=(), description="Patterns of the whole text.")
    one_of: tuple[JsonValue, ...] | None = Field(default=None, description="The values that fit.")
    equals: JsonValue = Field(default=None, description="The one value that fits.")
    min: float | None = Field(default=None, strict=True, description="The least number that fits.")
    max: float | None = Field(default=None, strict=True, description="The greatest one that fits.")
    from_user: Literal[True] | None = Field(
        default=None, description="Only a value that the user has written, word by word."
    )

    @model_validator(mode="before")
    @classmethod
    def _read(cls, data: Any) -> Any:
        if isinstance(data, str | list | tuple):
            return {"short": _texts(data, "a pattern")}
        if not isinstance(data, dict):
            raise ValueError(_not_a_pattern(data))  # pydantic wants a ValueError
        lists = {kind: _texts(data[kind], kind) for kind in _KINDS if kind in data}
        if not data:
            raise ValueError('an empty table names nothing: write "*" for any value')
        if "short" in data:
            raise ValueError("'short' means nothing: write the pattern itself, without a table")
        return {**data, **lists}

    @model_validator(mode="after")
    def _check(self) -> ArgumentPattern:
        for pattern in self.url:
            parse_url_pattern(pattern)
        for pattern in self.command:
            parse_command_pattern(pattern)
        for pattern in (*self.path, *self.short):
            if "\0" in pattern:
                raise ValueError(f"{pattern!r} holds a NUL character: leave it out")
        for bound in (self.min, self.max):
            if bound is not None and not math.isfinite(bound):
                raise ValueError("min and max are finite numbers: leave out a bound that is none")
        return self

    @model_serializer(mode="wrap")
    def _write(self, handler: SerializerFunctionWrapHandler) -> Any:
        if self.short:
            return self.short[0] if len(self.short) == 1 else list(self.short)
        written = handler(self)
        said = self.model_fields_set - {"short"}
        return {key: written.get(key) for key in type(self).model_fields if key in said}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from ((key, getattr(self, key)) for key in sorted(self.model_fields_set))

    def patterns(self, name: str) -> dict[Kind, Texts]:
        """The patterns by their kind, where the argument is called ``name``."""
        found: dict[Kind, Texts] = {
            kind: texts for kind in _KINDS if (texts := getattr(self, kind))
        }
        return {kind_of(name): self.short} if self.short else found


def _of_their_kinds(patterns: dict[str, ArgumentPattern]) -> dict[str, ArgumentPattern]:
    """What a short form is a pattern of is known only together with the argument's name."""
    for name, pattern in patterns.items():
        texts = pattern.patterns(name)
        for url in texts.get("url", ()):
            parse_url_pattern(url)
        for command in texts.get("command", ()):
            parse_command_pattern(command)
    return patterns


ArgumentPatterns: TypeAlias = Annotated[dict[str, ArgumentPattern], AfterValidator(_of_their_kinds)]
"""Patterns by the names of their arguments."""


def kind_of(name: str) -> Kind:
    """The kind of pattern that the short form is for an argument of this name."""
    if is_path_name(name):
        return "path"
    if is_url_name(name):
        return "url"
    return "command" if is_command_name(name) else "text"


def fits(pattern: ArgumentPattern, name: str, call: ToolCall, *, loosens: bool) -> bool:
    """Whether the argument ``name`` of a call fits; one that is missing does not."""
    if name not in call.args:
        return False
    value = call.args[name]
    return (
        all(
            _fits_kind(kind, texts, name, call, loosens=loosens)
            for kind, texts in pattern.patterns(name).items()
        )
        and _fits_values(pattern, value, loosens=loosens)
        and (pattern.from_user is None or stands_in(value, call.user_texts))
    )


def exactly(name: str, value: Any) -> ArgumentPattern:
    """The pattern that matches just this value: the short form where that is exact."""
    plain = isinstance(value, str) and kind_of(name) == "text" and "\0" not in value
    return ArgumentPattern.model_validate(escape(value) if plain else {"equals": value})


def describe(pattern: ArgumentPattern, name: str = "") -> str:
    """A pattern in words, to stand after the argument's name: ``is reports/**``."""
    said = [f"is {' or '.join(map(shown, texts))}" for texts in pattern.patterns(name).values()]
    if "equals" in pattern.model_fields_set:
        said.append(f"is exactly {shown(canonical(pattern.equals), whole=False)}")
    if pattern.one_of is not None:
        values = " or ".join(shown(canonical(value)) for value in pattern.one_of)
        said.append(f"is {values or 'one of no values'}")
    if pattern.min is not None:
        said.append(f"is at least {pattern.min:g}")
    if pattern.max is not None:
        said.append(f"is at most {pattern.max:g}")
    if pattern.from_user:
        said.append("is what the user wrote")
    return " and ".join(said)


def shown(pattern: str, *, whole: bool = True) -> str:
    """A pattern as it may be shown: on one line, not too long, with nothing invisible in it."""
    if pattern == "*" and whole:
        return "anything"
    short = pattern if len(pattern) <= 80 else f"{pattern[:79]}…"
    return short if short.isprintable() else ascii(short)


_KINDS: tuple[Kind, ...] = ("path", "url", "command", "text")


def _texts(value: Any, what: str) -> Texts:
    """A text or a list of texts as a tuple. Raises ``ValueError`` that says what to write."""
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{what} is not a text or a list of texts: put it in quotes")
    if not value:
        raise ValueError(f"{what} is an empty list, which nothing can fit: name a pattern")
    return tuple(value)


def _not_a_pattern(value: Any) -> str:
    toml = str(value).lower() if isinstance(value, bool) else str(value)
    return f'a pattern is a text such as "{toml}" or a table such as {{equals = {toml}}}'


def _fits_kind(kind: Kind, texts: Texts, name: str, call: ToolCall, *, loosens: bool) -> bool:
    """Whether an argument fits patterns of one kind; in a list all must, or loosely any."""
    value = call.args[name]
    if kind == "text":
        return _fits_text(texts, value, loosens=loosens)
    if kind == "path" and is_patch_name(name) and isinstance(value, str):
        value = list(patched_paths(value))
    if kind == "command":
        return _fits_command(texts, command_value(name, call.args), loosens=loosens)
    one = _path_test(texts, call, loosens=loosens) if kind == "path" else _url_test(texts, loosens)
    if loosens:
        values = [value] if isinstance(value, str) else value
        flat = isinstance(values, list) and all(isinstance(item, str) for item in values)
        return flat and bool(values) and all(map(one, values))
    return any(map(one, texts_of(value))) or _fits_text(texts, value, loosens=False)


def _path_test(texts: Texts, call: ToolCall, *, loosens: bool) -> Callable[[str], bool]:
    return lambda path: path_fits(texts, path, call, loosens=loosens)


def path_fits(texts: Texts, path: str, call: ToolCall, *, loosens: bool) -> bool:
    """Whether a path fits one of the patterns, as it is written and where it leads by links."""
    readings = dict.fromkeys((path, call.links.get(path, path)))
    if loosens:
        return all(
            any(matches_strictly(text, reading, call.workspace) for text in texts)
            for reading in readings
        )
    return any(
        matches_loosely(text, reading, call.workspace) for text in texts for reading in readings
    )


def _url_test(texts: Texts, loosens: bool) -> Callable[[str], bool]:
    test = matches_url_strictly if loosens else matches_url_loosely
    return lambda url: any(test(text, url) for text in texts)


def _fits_command(texts: Texts, value: CommandValue, *, loosens: bool) -> bool:
    if loosens:
        return bool(value.plain) and all(
            matches_command_strictly(texts, plain) for plain in value.plain
        )
    return any(matches_command_loosely(texts, reading) for reading in value.readings)


def _fits_text(texts: Texts, value: Any, *, loosens: bool) -> bool:
    """Whether a text, or a value as canonical JSON, fits one of the patterns."""
    text = value if isinstance(value, str) else canonical(value)
    if any(compile_glob(pattern).matches(text) for pattern in texts):
        return True
    return not loosens and any(
        compile_glob(_folded(pattern)).matches(_folded(text)) for pattern in texts
    )


def _fits_values(pattern: ArgumentPattern, value: Any, *, loosens: bool) -> bool:
    wanted = pattern.one_of
    if "equals" in pattern.model_fields_set and not _same(pattern.equals, value, loosens):
        return False
    if wanted is not None and not any(_same(one, value, loosens) for one in wanted):
        return False
    if pattern.min is None and pattern.max is None:
        return True
    return _in_bounds(pattern, value, loosens=loosens)


def _same(wanted: Any, value: Any, loosens: bool) -> bool:
    """Whether two JSON values are the same; loosely, whether a tool may take them for it."""
    if canonical(wanted) == canonical(value):
        return True
    return not loosens and _loosely_equal(wanted, value)


def _loosely_equal(wanted: Any, value: Any) -> bool:
    numbers = _number(wanted), _number(value)
    if None not in numbers:
        return numbers[0] == numbers[1]
    texts = (one if isinstance(one, str) else canonical(one) for one in (wanted, value))
    return len({_folded(text).strip() for text in texts}) == 1


def _in_bounds(pattern: ArgumentPattern, value: Any, *, loosens: bool) -> bool:
    """Whether a number is within the bounds; loosely, also what nobody can read as a number."""
    if loosens and (isinstance(value, bool) or not isinstance(value, int | float)):
        return False
    number = _number(value)
    if number is None:
        return not loosens
    lowest = -math.inf if pattern.min is None else pattern.min
    highest = math.inf if pattern.max is None else pattern.max
    return lowest <= number <= highest


def _number(value: Any) -> float | None:
    """The number that a value is, or that a lenient tool takes it for."""
    if isinstance(value, int):
        return value
    if not isinstance(value, float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _folded(text: str) -> str:
    """What all spellings of a text have in common: case, forms of letters, invisible characters."""
    if text.isascii() and text.isprintable():
        return text.lower()
    usual = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in usual if c in "\n\t" or unicodedata.category(c)[0] != "C")
