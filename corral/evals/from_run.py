"""A run as a case of an evaluation set: its prompt, and checks of what it did.

The case is added to the text of a set, so that comments and the order of keys stay as they are.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from corral.errors import ConflictError, UsageError
from corral.evals.dataset import load_dataset
from corral.jsontypes import JsonObject
from corral.runtime.config import Settings
from corral.runtime.export.files import writing
from corral.runtime.views import Approval, EffectView, RunView

_EXACT = 120  # longest answer that is expected as it is
_SHORT = 80  # longest argument that is worth a check
_READ = "files__read_file"
_WRITERS = (
    *("files__write_file", "files__edit_file", "files__apply_patch", "files__move"),
    *("files__delete", "files__restore", "python__run_code"),
    *("shell__run_command", "shell__start_job"),
)
_MAX_FILE = 20_000  # longest file, in characters, that is worth a place in a case


@dataclass(frozen=True)
class Recorded:
    """A run, its journal, its questions to humans, and what is stored of its agent.

    ``continued``: its thread was older than the run.
    """

    run: RunView
    effects: Sequence[EffectView]
    approvals: Sequence[Approval]
    spec: JsonObject
    continued: bool = False


@dataclass(frozen=True)
class AddedCase:
    """The id of a case that was added, and what its reader should know."""

    id: str
    remarks: tuple[str, ...]


@dataclass
class _Case:
    """A case in the making."""

    keys: JsonObject
    remarks: list[str] = field(default_factory=list)


def add_case(path: Path, recorded: Recorded, settings: Settings) -> AddedCase:
    """Add a run to the set in ``path``, which is made when it is not there.

    Raises ``UsageError`` for a run that has not ended, ``ConflictError`` for one that is in the set
    already, ``ConfigError`` for a file that is no set.
    """
    case = _case(recorded, settings)
    if "model" in case.keys:
        case.keys["model"] = _model_beside(path, case.keys["model"])
    if path.exists():
        text = _appended(path, case.keys)
    else:
        text = _yaml({"name": path.stem or "cases", "threshold": 1.0, "cases": [case.keys]})
    _write(path, text)
    return AddedCase(case.keys["id"], tuple(case.remarks))


def _model_beside(path: Path, model: str) -> str:
    """A model's reference; a file that it names from here is named from the set's folder."""
    kind, colon, rest = model.rpartition(":")
    if (kind != "scripted" and not model.endswith(".gguf")) or rest.startswith(("/", "~")):
        return model
    return f"{kind}{colon}{os.path.relpath(rest, path.absolute().parent)}"


def _case(recorded: Recorded, settings: Settings) -> _Case:
    run = recorded.run
    if run.status == "running":
        raise UsageError(
            f"The run {run.run} has not ended.",
            hint=f"End it with `corral resume {run.run}`, or `corral cancel {run.run}`.",
        )
    case = _Case({"id": f"run-{run.run.removeprefix('r-')}", "prompt": run.prompt})
    _add_agent(case, recorded, settings)
    _add_policy(case, recorded)
    if recorded.continued:
        case.remarks.append("the run went on with a conversation: the case has its prompt alone")
    files = dict(_files(recorded.effects))
    if files:
        case.keys["files"] = files
    case.keys["expect"] = list(_checks(recorded))
    return case


def _add_agent(case: _Case, recorded: Recorded, settings: Settings) -> None:
    run, spec = recorded.run, recorded.spec
    if run.agent in settings.agents:
        case.keys["agent"] = run.agent
    elif run.agent != "assistant" or spec.get("functions") or spec.get("own_graph"):
        case.remarks.append(
            f"the agent {run.agent!r} lives in a program: configure [agents.{run.agent}] and name "
            "it in the case, or the case runs the default agent"
        )
    if spec.get("own_model"):
        case.remarks.append("the model lives in a program: the case runs the configured model")
    else:
        case.keys["model"] = run.model


def _add_policy(case: _Case, recorded: Recorded) -> None:
    policy = recorded.spec.get("policy")
    approved = any(one.status == "approved" for one in recorded.approvals)
    if policy is not None:
        case.keys["policy"] = policy
    elif approved:
        case.keys["policy"] = "workspace"
        case.remarks.append(
            "calls were approved by a human, and an evaluation has none: the case lets sandboxed "
            "tools run by themselves (policy: workspace)"
        )


def _files(effects: Sequence[EffectView]) -> Iterator[tuple[str, str]]:
    """The files that the run read before it could have changed any, as it read them."""
    taken: list[str] = []
    for effect in effects:
        if effect.kind != "tool":
            continue
        if effect.name in _WRITERS:
            return
        path, text = _read_whole(effect)
        if path is not None and not _clashes(path, taken):
            taken.append(path)
            yield path, text


def _clashes(path: str, taken: Sequence[str]) -> bool:
    return any(
        path == other or path.startswith(f"{other}/") or other.startswith(f"{path}/")
        for other in taken
    )


def _read_whole(effect: EffectView) -> tuple[str | None, str]:
    """Path and text of a file that a call has read from beginning to end."""
    match effect.name, effect.request, effect.result:
        case (
            "files__read_file",
            {"args": {"path": str(path), **rest}},
            {"text": str(text), "is_error": False, "dropped": 0},
        ) if not rest:
            is_inside = not path.startswith(("/", "~")) and ".." not in path.split("/")
            has_note = text.rstrip().endswith("]") and "\n[" in text
            if is_inside and path and len(text) <= _MAX_FILE and not has_note:
                return path, "" if text == "[the file is empty]" else text
    return None, ""


def _checks(recorded: Recorded) -> Iterator[JsonObject]:
    run = recorded.run
    if run.status != "completed":
        yield {"status": run.status}
    answer = run.output.strip()
    if answer and len(answer) <= _EXACT and "\n" not in answer:
        yield {"equals": answer}
    elif answer:
        longest = max((line.strip() for line in answer.splitlines()), key=len)
        yield {"contains": longest[:_EXACT].strip()}
    yield from _calls(recorded.effects)
    yield {"max_steps": run.steps}


def _calls(effects: Sequence[EffectView]) -> Iterator[JsonObject]:
    """A check for each different call, in the order in which they were first made."""
    counts: dict[str, tuple[JsonObject, int]] = {}
    for effect in effects:
        if effect.kind != "tool" or "/" in effect.path:
            continue
        pattern = _pattern(effect)
        key = yaml.safe_dump(pattern)
        counts[key] = (pattern, counts.get(key, (pattern, 0))[1] + 1)
    for pattern, count in counts.values():
        yield {"tool_called": {**pattern, "times": count}}


def _pattern(effect: EffectView) -> JsonObject:
    request = effect.request if isinstance(effect.request, dict) else {}
    args = request.get("args")
    given = args if isinstance(args, dict) else {}
    short = {key: value for key, value in given.items() if _is_short(value)}
    result = effect.result if isinstance(effect.result, dict) else {}
    is_ok = effect.status == "finished" and not result.get("is_error")
    return {"name": effect.name, **({"args": short} if short else {}), "ok": is_ok}


def _is_short(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= _SHORT and "\n" not in value
    return isinstance(value, bool | int | float)


class _Dumper(yaml.SafeDumper):
    """YAML as people write it: long texts as blocks, lists under their key, in the given order."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        del indentless
        super().increase_indent(flow, indentless=False)


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = "|" if "\n" in value else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)


def _yaml(value: Any) -> str:
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)


def _appended(path: Path, case: JsonObject) -> str:
    """The text of a set with a case more at the end of its list."""
    known = load_dataset(path)
    if any(one.id == case["id"] for one in known.cases):
        raise ConflictError(
            f"{path} has the case {case['id']} already.",
            hint="Take it out there, or name another file with -o.",
        )
    text = path.read_text(encoding="utf-8")
    node: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    cases = next(value for key, value in node.value if key.value == "cases")
    if cases.flow_style:
        raise UsageError(
            f"The cases in {path} stand in brackets, so that none can be added.",
            hint="Write one case a line, each with a dash, or name another file with -o.",
        )
    indent = " " * cases.start_mark.column
    added = "".join(f"{indent}{line}" for line in _yaml([case]).splitlines(keepends=True))
    end = _end_of(cases.value[-1])
    lines = text.splitlines(keepends=True)
    before, after = lines[:end], lines[end:]
    if before and not before[-1].endswith("\n"):
        before[-1] += "\n"
    return "".join([*before, "\n", added, *after])


def _end_of(node: yaml.Node) -> int:
    """The line after the last one that belongs to a node; comments after it do not."""
    while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    return int(node.end_mark.line + (node.end_mark.column > 0))


def _write(path: Path, text: str) -> None:
    """Write the set, once it is known to be one."""
    with tempfile.TemporaryDirectory(prefix="corral-case-") as folder:
        trial = Path(folder) / "cases.yaml"
        trial.write_text(text, encoding="utf-8")
        load_dataset(trial)
    with writing(path, force=True) as target:
        target.write(text.encode())
