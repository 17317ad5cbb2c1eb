"""Making an agent's file: its text, and writing it whole or not at all."""

from __future__ import annotations

import os
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import to_jsonable_python

from corral.agents.files.front_matter import MARK
from corral.errors import ConfigError, ConflictError
from corral.jsontypes import JsonObject

_WIDTH = 88

_TEMPLATE = """\
---
name: {name}
description: What it is for, in one sentence. Whoever gives it tasks reads this.
{pattern}# What is left out is as in your settings. `corral agents show {name}` says what holds.
# model: local                        # or several, the next when one fails: [openai:NAME, local]
# tools: files__read_file, files__search_files
# servers: [files]
# agents: []                          # others that it may give tasks to
# policy: read-only                   # narrows what it and those below it may do
# budget: {{tokens: 20000}}             # for each task
# limits: {{max_steps: 20}}
---
You are {name}. Say here what you do, how you do it, and what your answer looks like.
"""


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: texts of several lines stand in a block."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def front_matter(data: JsonObject) -> str:
    """Front matter that says ``data``, with the marks around it."""
    said = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return f"{MARK}\n{said}{MARK}\n"


def template(name: str, pattern: str | None) -> str:
    """A new agent's file, with a comment on all that it could say."""
    lines = _pattern_lines(pattern) if pattern is not None else ()
    return _TEMPLATE.format(name=name, pattern="".join(f"{line}\n" for line in lines))


def _pattern_lines(name: str) -> Iterator[str]:
    """``pattern``, and each of its options with its default, as comments."""
    from corral.agents.patterns.registry import find_pattern, read_options  # LangGraph
    from corral.agents.spec import Agent

    pattern = find_pattern(name)
    yield f"pattern: {pattern.name}"
    try:
        read_options(Agent(pattern=name))
    except ConfigError:  # it needs a team
        yield "agents: [assistant]                   # those that it gives tasks to"
    fields = pattern.options.model_fields
    if fields:
        yield "# options:"
    for key, field in fields.items():
        default = to_jsonable_python(field.get_default(call_default_factory=True))
        said = yaml.dump(default, Dumper=_Dumper, default_flow_style=True, width=_WIDTH)
        value = said.removesuffix("\n").removesuffix("\n...")
        about = textwrap.shorten(field.description or "", 90, placeholder=" …")
        yield f"#   {key}: {value}".ljust(38) + f"# {about}".rstrip()


def write(path: Path, text: str, *, within: Path, force: bool) -> None:
    """Write a file that is there whole or not at all.

    The folder is made if need be; through links it must stay in ``within``. Raises
    ``ConflictError`` for a file that is there already unless ``force``, and ``ConfigError``.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.parent.resolve().is_relative_to(within.resolve()):
            raise ConfigError(
                f"{path.parent} is, or goes through, a link that leads out of {within}.",
                hint="Remove the link, or write the file yourself.",
            )
        _write(path, text, force=force)
    except FileExistsError as error:
        raise ConflictError(
            f"There is a file {path} already.",
            hint="Choose another name, or write over it with --force.",
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be written: {error.strerror}.", hint="Check the folder's rights."
        ) from error


def _write(path: Path, text: str, *, force: bool) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        if force:
            Path(name).replace(path)
        else:
            os.link(name, path)  # fails where there is a file, which a rename would not
    finally:
        Path(name).unlink(missing_ok=True)
