"""Evaluation sets: YAML files of cases, read and checked completely before anything runs.

name: arithmetic
model: local            # of all cases that name none; so are agent, policy, limits and timeout
threshold: 0.8
cases:
  - id: product
    prompt: What is 6 times 7? Use the python tool.
    files: {notes/todo.txt: "buy hay"}
    expect:
      - contains: "42"
      - tool_called: {name: python__run_code}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from corral.errors import ConfigError, NotFoundError
from corral.evals.checks import AnyCheck, Check, Status
from corral.policies.limits import RunLimits

_EXAMPLE = "See examples/evals for a set that works."
_SHARED = ("agent", "model", "policy", "limits", "timeout")
_WORDS = {
    "extra_forbidden": "unknown key",
    "missing": "is missing",
    "string_type": 'must be text (put it in "quotes")',
}


class _Base(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    agent: str | None = Field(default=None, description="A configured agent.")
    model: str | None = Field(default=None, description="A model reference.")
    policy: str | None = Field(default=None, description="A preset's name or a policy file.")
    limits: RunLimits | None = Field(default=None, description="The limits of a run.")
    timeout: float | None = Field(default=None, gt=0, description="Seconds for one run.")


T = TypeVar("T", bound=_Base)


class Case(_Base):
    """One task, and the checks that its run must pass.

    ``files`` (path: content) are written to a fresh folder in which the run works.
    """

    id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    prompt: str = Field(min_length=1)
    files: dict[str, str] = Field(default_factory=dict)
    expect: tuple[AnyCheck, ...] = Field(min_length=1)

    @field_validator("files")
    @classmethod
    def _inside(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.name or "\0" in name:
                raise ValueError(f"{name!r} is not a relative path inside the workspace")
            if any(str(parent) in value for parent in path.parents):
                raise ValueError(f"{name!r} lies inside another file")
        return value

    @property
    def checks(self) -> tuple[Check, ...]:
        """The checks; a case that says nothing about the status must complete."""
        if any(isinstance(check, Status) for check in self.expect):
            return self.expect
        return (Status(status="completed"), *self.expect)


class Dataset(_Base):
    """A set of cases. ``threshold`` is the pass rate, from 0 to 1, that the set must reach."""

    name: str = Field(min_length=1)
    description: str = ""
    threshold: float = Field(default=0.8, ge=0, le=1)
    cases: tuple[Case, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_of_each(self) -> Dataset:
        twice = [one for one, count in Counter(case.id for case in self.cases).items() if count > 1]
        if twice:
            raise ValueError(f"more than one case has the id {twice[0]!r}")
        return self

    def effective(self, case: Case) -> Case:
        """The case with the set's own agent, model, policy, limits and timeout filled in."""
        missing = {key: getattr(self, key) for key in _SHARED if getattr(case, key) is None}
        return case.model_copy(update=missing)

    def override(self, **values: str | None) -> Dataset:
        """The set with ``agent``, ``model`` or ``policy`` replaced in every case."""
        given = {key: value for key, value in values.items() if value is not None}
        cases = tuple(case.model_copy(update=given) for case in self.cases)
        return self.model_copy(update={**given, "cases": cases})


def load_dataset(path: Path) -> Dataset:
    """Read a set. Files that it names (scripts, GGUF files, policies) lie beside it.

    Raises ``NotFoundError`` when there is no such file, and ``ConfigError`` that names the file,
    the case and the key that is wrong.
    """
    data = _read(path)
    try:
        dataset = Dataset.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explained(path, data, error), hint=_EXAMPLE) from error
    folder = path.absolute().parent
    cases = tuple(_anchored(case, folder) for case in dataset.cases)
    return _anchored(dataset, folder).model_copy(update={"cases": cases})


class _Loader(yaml.SafeLoader):
    """YAML without dates and without double keys, of which one would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = Counter(str(key.value) for key, _ in node.value)
        double = next((key for key, count in keys.items() if count > 1), None)
        if double is not None:
            raise yaml.MarkedYAMLError(
                problem=f"the key {double!r} stands twice", problem_mark=node.start_mark
            )
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _read(path: Path) -> Mapping[str, Any]:
    data = read_yaml(path, "evaluation set")
    if not isinstance(data, Mapping):
        raise ConfigError(f"{path}: expected a mapping with name and cases", hint=_EXAMPLE)
    return data


def read_yaml(path: Path, what: str, hint: str = _EXAMPLE) -> Any:
    """What a YAML file holds. Raises as ``load_dataset``; ``what`` the file is, for the errors."""
    try:
        loader = _Loader(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise NotFoundError(f"There is no {what} {path}.", hint=hint) from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as text: {error}", hint=hint) from error
    try:
        data = loader.get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error) or type(error).__name__
        raise ConfigError(f"{path}{line}: not YAML: {problem}", hint=hint) from error
    else:
        return data
    finally:
        loader.dispose()


def _explained(path: Path, data: Mapping[str, Any], error: ValidationError) -> str:
    """The first problem, as ``FILE: case 'ID': KEY: what is wrong``."""
    problem = error.errors()[0]
    keys: list[str | int] = []
    for part in problem["loc"]:
        # The tag of a check stands before its key, under the same name.
        if not keys or part != keys[-1]:
            keys.append(part)
    where = [str(path)]
    if len(keys) > 1 and keys[0] == "cases" and isinstance(keys[1], int):
        where.append(f"case {_case_name(data, keys[1])}")
        keys = keys[2:]
    key = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in keys).removeprefix(".")
    text = _WORDS.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    return ": ".join([*where, *([key] if key else []), text])


def _case_name(data: Mapping[str, Any], index: int) -> str:
    case = data["cases"][index]
    name = case.get("id") if isinstance(case, Mapping) else None
    return repr(name) if isinstance(name, str) else f"number {index + 1}"


def _anchored(part: T, folder: Path) -> T:
    """Paths that the file names are beside the file."""
    update: dict[str, str] = {}
    if part.model is not None:
        kind, colon, rest = part.model.rpartition(":")
        if kind == "scripted" or part.model.endswith(".gguf"):
            update["model"] = f"{kind}{colon}{folder / Path(rest).expanduser()}"
    if part.policy is not None and (part.policy.endswith(".toml") or "/" in part.policy):
        update["policy"] = str(folder / Path(part.policy).expanduser())
    return part.model_copy(update=update)
