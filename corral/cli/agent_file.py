"""An agent from a file: Markdown, or TOML with the keys of ``[agents.NAME]``, alone or in it."""

from __future__ import annotations

import difflib
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from corral.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import ValidationError

    from corral.agents.spec import Agent

_MOST = 1024 * 1024


def read_agent(path: Path, name: str) -> Agent:
    """The agent in a file; it is called ``name`` when the file does not say.

    Raises ``ConfigError`` that names the file, the line and what to write instead.
    """
    from pydantic import ValidationError

    from corral.agents.files.catalog import is_file_name
    from corral.agents.spec import Agent
    from corral.runtime.sections import AgentConfig

    if is_file_name(path.name):
        return Agent.from_file(path)
    text = _read(path)
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is not valid TOML: {error}.", hint="Correct the file and try again."
        ) from error
    found, fields = _agent_in(data, path, name)
    own_name = fields.pop("name", found)
    if not isinstance(own_name, str) or not own_name:
        raise ConfigError(
            f"{path}{_line(text, ['name'])}: the name of an agent is a text.",
            hint=f'Write name = "{name}", or leave it out.',
        )
    try:
        config = AgentConfig.model_validate(fields)
    except ValidationError as error:
        raise _explained(error, path, text, [*AgentConfig.model_fields, "name"]) from error
    return Agent(name=own_name, **dict(config))


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MOST:
            raise ConfigError(
                f"{path} is larger than 1 MiB, which no agent is.", hint="Name another file."
            )
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.",
            hint="Name a TOML file with the keys of [agents.NAME], see docs/configuration.md.",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not a UTF-8 text file.", hint="Save it as UTF-8 and try again."
        ) from error


def _agent_in(data: dict[str, Any], path: Path, name: str) -> tuple[str, dict[str, Any]]:
    """The agent's name and keys: those of the only ``[agents.NAME]``, or of the whole file."""
    tables = data.get("agents")
    if not isinstance(tables, dict):
        return name, data
    chosen = name if name in tables else next(iter(tables), "")
    if (len(tables) > 1 and name not in tables) or not isinstance(tables.get(chosen), dict):
        raise ConfigError(
            f"{path} holds {len(tables)} agents: {', '.join(tables) or 'none'}.",
            hint=f"Give a file with one of them, or call one {name!r}, as the run's agent.",
        )
    return chosen, dict(tables[chosen])


def _explained(error: ValidationError, path: Path, text: str, names: list[str]) -> ConfigError:
    problem = error.errors()[0]
    keys = [str(part) for part in problem["loc"] if not isinstance(part, int)]
    where = f"{path}{_line(text, keys)}"
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(keys[-1], names, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"The keys are: {', '.join(names)}."
        return ConfigError(f"{where}: there is no key {'.'.join(keys)!r} in an agent.", hint=hint)
    return ConfigError(
        f"{where}: {'.'.join(keys)}: {problem['msg'].removeprefix('Value error, ')}.",
        hint="See docs/configuration.md for what an agent can be given.",
    )


def _line(text: str, keys: list[str]) -> str:
    """``, line N`` for the line in which the innermost key that is written out stands."""
    for key in reversed(keys):
        written = re.compile(rf"""(^|[\s{{,.\["'])["']?{re.escape(key)}["']?\s*[=\].]""")
        for number, line in enumerate(text.splitlines(), start=1):
            if written.search(line.partition("#")[0]):
                return f", line {number}"
    return ""
