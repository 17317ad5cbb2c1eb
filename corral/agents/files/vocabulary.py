"""The words of other products' agent files, and what they are here.

Files of Claude Code (``.claude/agents/*.md``) are the form that most people have. What can be said
in Corral's own words is read as it is, anything else is named with what to write instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

TOOLS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Read": ("files__read_file",),
        "LS": ("files__list_directory",),
        "Glob": ("files__tree", "files__list_directory"),
        "Grep": ("files__search_files",),
        "Write": ("files__write_file",),
        "Edit": ("files__edit_file",),
        "MultiEdit": ("files__edit_file", "files__apply_patch"),
        "Bash": ("shell__run_command",),
        "BashOutput": ("shell__job_output",),
        "KillShell": ("shell__stop_job",),
        "KillBash": ("shell__stop_job",),
        "WebFetch": ("web__fetch",),
        "WebSearch": ("web__search",),
    }
)
"""Claude Code's tools, and ours that do the same."""

_WITHOUT: Mapping[str, str] = MappingProxyType(
    {
        "Task": "Name the agents that it may give tasks to in `agents:`.",
        "Agent": "Name the agents that it may give tasks to in `agents:`.",
        "Skill": "Corral has no skills: write what it needs to know into the instructions.",
        **dict.fromkeys(
            ("TodoWrite", "TodoRead", "ExitPlanMode", "AskUserQuestion"),
            "Corral has nothing like it: take it out.",
        ),
        **dict.fromkeys(
            ("NotebookEdit", "NotebookRead"),
            "Corral edits notebooks as files: files__read_file, files__edit_file.",
        ),
    }
)

KEYS: Mapping[str, str] = MappingProxyType(
    {
        "color": "Corral shows no colours: take the line out.",
        "permissionMode": "Write `policy:` with a preset: read-only, ask, workspace or trusted.",
        "disallowedTools": "Write `tools:` with all that it may use, or `policy:` with rules.",
        "allowed-tools": "Write `tools:`.",
        "mcpServers": "Configure servers as [mcp.NAME] in corral.toml; name them in `servers:`.",
        "maxTurns": "Write `limits: {max_steps: N}`.",
        "effort": "Write `reasoning:` with none, low, medium or high.",
        "prompt": "Write the instructions below the front matter.",
        "system": "Write the instructions below the front matter.",
        "hooks": "Write `checks:`, which look at its prompts, answers, calls and results.",
        **dict.fromkeys(
            ("temperature", "top_p", "top_k", "max_tokens", "seed"),
            "It belongs under `sampling:`.",
        ),
        **dict.fromkeys(
            ("skills", "memory", "background", "isolation", "initialPrompt", "version", "author"),
            "Corral has nothing like it: take the line out.",
        ),
    }
)
"""Keys of other products, and what to write here."""

INHERIT = "inherit"
"""The model of whoever gives the agent a task."""

_ALIASES = ("sonnet", "opus", "haiku", "fable", "default")
_TOOL = re.compile(r"[A-Za-z0-9_*.-]{1,128}")
_MCP = "mcp__"


@dataclass(frozen=True)
class ReadTools:
    """A list of tools in Corral's names, and for each that has none: it and what to do."""

    names: tuple[str, ...]
    unknown: tuple[tuple[str, str], ...] = ()


def read_tools(written: list[str]) -> ReadTools | None:
    """Tools under whatever names; ``None`` for all that there are."""
    if written in (["*"], ["All"], ["all"]):
        return None
    names: list[str] = []
    unknown: list[tuple[str, str]] = []
    for name in written:
        if name in TOOLS:
            names += TOOLS[name]
        elif refusal := _refusal(name):
            unknown.append((name, refusal))
        else:
            names.append(name.removeprefix(_MCP))
    return ReadTools(tuple(dict.fromkeys(names)), tuple(unknown))


def _refusal(name: str) -> str:
    """Why a name is no tool's of Corral's, as a hint; nothing where it may be one."""
    head, bracket, _ = name.partition("(")
    if bracket:
        ours = TOOLS.get(head, (head,))[0]
        return (
            f"Write {ours}. Which of its calls are free is said by your own [[rules]]; `policy:` "
            "can narrow them for this agent."
        )
    if name in _WITHOUT:
        return _WITHOUT[name]
    if not _TOOL.fullmatch(name) or "*" in name:
        return "Write the names of tools, as `corral mcp list` shows them."
    if name.startswith(_MCP) and "__" not in name.removeprefix(_MCP):
        return f"Name the server in `servers:` ({name.removeprefix(_MCP)}), and leave out `tools:`."
    if "__" not in name:
        return _nearest(name)
    return ""


def _nearest(name: str) -> str:
    folded = name.lower()
    same = next((ours for other, ours in TOOLS.items() if other.lower() == folded), None)
    if same is not None:
        return f"Write {', '.join(same)}."
    return "Tools are named SERVER__TOOL: `corral mcp list` shows them."


def listed(text: str) -> list[str]:
    """The parts of a list that is written as one text; commas in brackets do not part."""
    return [part for part in map(str.strip, _parts(text)) if part]


def _parts(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for at, char in enumerate(text):
        depth = max(0, depth + (char == "(") - (char == ")"))
        if char == "," and depth == 0:
            yield text[start:at]
            start = at + 1
    yield text[start:]


def model_hint(model: str) -> str:
    """What to write in place of a model's name of another product; nothing where it may be ours."""
    if model in _ALIASES or model.startswith("claude"):
        named = model if model.startswith("claude") else "NAME"
        return (
            f"Write a model reference, such as anthropic:{named} or local, or {INHERIT}: "
            "see `corral models list`."
        )
    return ""
