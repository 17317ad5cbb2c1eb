"""An agent as a Markdown file: front matter says what it is, and the body are its instructions.

    ---
    name: reviewer
    description: Looks for mistakes in a change.
    tools: files__read_file, files__search_files
    policy: read-only
    ---
    You review changes. Name the file and the line of each mistake.

The keys are those of ``[agents.NAME]``, and ``name``, which is the file's when left out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from corral.agents.files import front_matter, vocabulary
from corral.agents.files.front_matter import FrontMatter, NotFrontMatterError
from corral.agents.files.problems import Problem
from corral.errors import ConfigError
from corral.jsontypes import Json, JsonObject, digest
from corral.runtime.sections import AgentConfig

KEYS = ("name", *AgentConfig.model_fields)
"""What front matter may say."""

_TEXTS = frozenset(
    ("name", "instructions", "description", "tool_choice", "reasoning", "pattern", "policy")
)
_LISTS = frozenset(("tools", "servers", "agents", "model"))
_MOST_PROBLEMS = 20
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,47}")


@dataclass(frozen=True)
class AgentFile:
    """What was read: the agent, or the problems because of which there is none.

    ``data`` is the agent as the settings would have it under ``[agents.NAME]``, and ``lines`` the
    line of each of its keys.
    """

    path: Path
    name: str
    config: AgentConfig | None
    problems: tuple[Problem, ...] = ()
    data: JsonObject = field(default_factory=dict)
    lines: Mapping[front_matter.Path, int] = field(default_factory=dict)
    digest: str = ""

    def line_of(self, *keys: str | int) -> int | None:
        """The line of a key, or of what it stands in."""
        return FrontMatter({}, self.lines).line_of(keys)


def read_markdown(text: str, path: Path) -> AgentFile:
    """Read an agent. All that is wrong with it is in ``problems``; nothing is raised."""
    try:
        parts = front_matter.split(text)
        front = front_matter.parse(parts.front, is_text)
    except NotFrontMatterError as error:
        problem = Problem(path, error.line, "", error.message, error.hint)
        return AgentFile(path, path.stem, None, (problem,))
    return replace(_Markdown(path, front, parts.body).agent(), digest=digest(text))


def is_text(path: front_matter.Path) -> bool:
    """Whether what stands there is a text whatever it looks like, such as the model ``4.1``."""
    if len(path) == 1:
        return path[0] in _TEXTS or path[0] in _LISTS
    return len(path) == 2 and path[0] in _LISTS


class _Markdown:
    """One file, on its way from front matter to an agent."""

    def __init__(self, path: Path, front: FrontMatter, body: str) -> None:
        self._path = path
        self._front = front
        self._body = body
        self._problems: list[Problem] = []

    def agent(self) -> AgentFile:
        name = self._name()
        data = {key: self._read(key, value) for key, value in self._stated()}
        data = {key: value for key, value in data.items() if value is not None}
        self._put_body(data)
        config: AgentConfig | None = None
        try:
            config = AgentConfig.model_validate(data)
        except ValidationError as error:
            for problem in error.errors(include_url=False)[:_MOST_PROBLEMS]:
                self._misfit(problem)
        except ConfigError as error:
            self._problem((), error.message.removesuffix("."), error.hint)
        if self._problems:
            config = None
        self._problems.sort(key=lambda problem: problem.line or 0)
        return AgentFile(self._path, name, config, tuple(self._problems), data, self._front.lines)

    def _name(self) -> str:
        stated = self._front.data.get("name")
        name = self._path.stem if stated is None else str(stated)
        if not _NAME.fullmatch(name):
            near = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:48] or "reviewer"
            self._problem(
                ("name",),
                f"{name!r} cannot be the name of an agent",
                f"Use letters, digits, dashes and underscores, 48 at most, as in `name: {near}`.",
            )
        return name

    def _stated(self) -> Iterator[tuple[str, Json]]:
        """The keys that an agent has, with what is said of them."""
        for key, value in self._front.data.items():
            if len(self._problems) >= _MOST_PROBLEMS:
                return
            if key not in KEYS:
                self._problem((key,), "there is no such key", _instead(key, KEYS))
            elif value is None:
                self._problem(
                    (key,), "nothing is written there", "Write a value, or leave the line out."
                )
            elif key != "name":
                yield key, value

    def _read(self, key: str, value: Json) -> Json:
        """A value in the form in which the settings have it; ``None`` leaves it out."""
        if key in _LISTS - {"model"} and isinstance(value, str):
            value = list(vocabulary.listed(value))
        if key == "tools" and isinstance(value, list):
            return self._tools(value)
        if key == "model" and isinstance(value, str):
            return self._model(value)
        return value

    def _tools(self, written: list[Json]) -> Json:
        texts = [one for one in written if isinstance(one, str)]
        if len(texts) < len(written):
            return written  # the settings say what is wrong with it
        read = vocabulary.read_tools(texts)
        if read is None:
            return None
        for name, hint in read.unknown[:_MOST_PROBLEMS]:
            self._problem(("tools",), f"{name!r} is not a tool of Corral's", hint)
        return list(read.names)

    def _model(self, model: str) -> Json:
        if model == vocabulary.INHERIT:
            return None
        if hint := vocabulary.model_hint(model):
            self._problem(("model",), f"{model!r} is not a model of Corral's", hint)
        return model

    def _put_body(self, data: JsonObject) -> None:
        if self._body and "instructions" in data:
            self._problem(
                ("instructions",),
                "there are instructions below the front matter, too",
                "Keep one of them.",
            )
        elif self._body:
            data["instructions"] = self._body

    def _misfit(self, problem: Any) -> None:
        loc = tuple(problem["loc"])
        if loc[:2] == ("policy", "rules") and isinstance(self._front.data["policy"], list):
            loc = (loc[0], *loc[2:])
        said = str(problem["msg"]).removeprefix("Value error, ").removesuffix(".")
        said = said.replace("valid tuple", "list").replace("valid dictionary", "mapping")
        if problem["type"] == "extra_forbidden":
            self._problem(loc, "there is no such key", _instead(str(loc[-1]), _siblings(loc)))
            return
        quoted = problem["type"] == "string_type" and not isinstance(problem["input"], dict | list)
        hint = "Put it into quotes." if quoted else "See docs/agents.md for what may stand there."
        self._problem(loc, said[:1].lower() + said[1:], hint)

    def _problem(self, keys: tuple[str | int, ...], message: str, hint: str) -> None:
        key = ".".join(map(str, keys))
        line = self._front.line_of(keys)
        self._problems.append(Problem(self._path, line, key, message, hint))


def _instead(key: str, known: Sequence[str]) -> str:
    if key in vocabulary.KEYS and known is KEYS:
        return vocabulary.KEYS[key]
    near = difflib.get_close_matches(key.lower(), known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"The keys are: {', '.join(known)}."


def _siblings(loc: tuple[str | int, ...]) -> Sequence[str]:
    """The keys that could stand in the place of the last one of ``loc``."""
    model: type[BaseModel] = AgentConfig
    for key in loc[:-1]:
        field = model.model_fields.get(str(key))
        model = _model_in(field.annotation) or model if field is not None else model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model of a field, also of one that is optional or a list."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
