"""Files of prompts that models are compared by: a YAML list, or JSON lines.

- What is the capital of France?
- {id: product, prompt: "What is 6 times 7?", expect: [{contains: "42"}]}
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from corral.errors import ConfigError
from corral.evals.checks import AnyCheck
from corral.evals.dataset import read_yaml

_EXAMPLE = 'Write a list such as  - {prompt: "What is 6 times 7?", expect: [{contains: "42"}]}'


class Prompt(BaseModel):
    """A prompt, and the checks that say how good an answer to it is; there may be none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(default="", max_length=64)
    prompt: str = Field(min_length=1)
    system: str | None = None
    expect: tuple[AnyCheck, ...] = ()


def load_prompts(path: Path) -> tuple[Prompt, ...]:
    """The prompts of a file; those without an id have their number.

    Raises ``NotFoundError`` when there is no such file, and ``ConfigError`` that names the file,
    the prompt and what is wrong with it.
    """
    found = list(_lines(path) if path.suffix == ".jsonl" else _items(path))
    if not found:
        raise ConfigError(f"{path} holds no prompts.", hint=_EXAMPLE)
    prompts = tuple(_prompt(f"{path}: {where}", data) for where, data in found)
    named = tuple(
        one if one.id else one.model_copy(update={"id": str(number)})
        for number, one in enumerate(prompts, start=1)
    )
    twice = [one for one, count in Counter(prompt.id for prompt in named).items() if count > 1]
    if twice:
        raise ConfigError(
            f"{path}: more than one prompt has the id {twice[0]!r}.",
            hint="Give each an id of its own, or none at all.",
        )
    return named


def _items(path: Path) -> Iterator[tuple[str, Any]]:
    data = read_yaml(path, "file of prompts", _EXAMPLE)
    if not isinstance(data, list):
        raise ConfigError(f"{path}: expected a list of prompts.", hint=_EXAMPLE)
    for number, item in enumerate(data, start=1):
        yield f"prompt {number}", item


def _lines(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}", hint=_EXAMPLE) from error
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: line {number} is no JSON: {error}") from error


def _prompt(where: str, data: Any) -> Prompt:
    try:
        return Prompt.model_validate({"prompt": data} if isinstance(data, str) else data)
    except ValidationError as error:
        problem = error.errors()[0]
        keys = ".".join(str(part) for part in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
        raise ConfigError(f"{where}: {keys}: {said}", hint=_EXAMPLE) from error
