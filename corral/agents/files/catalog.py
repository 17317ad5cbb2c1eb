"""All agents that there are by name: those of the settings and those of Markdown files.

Markdown files are the project's, in ``.corral/agents``, or the user's own, in ``agents`` of the
configuration folder. A project's file may say what its ``corral.toml`` may say, and nothing more.
An agent of the user's own is never replaced by one of the project's; two of one owner with the same
name are an error of that agent, and of no other.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from corral.agents.files.markdown import AgentFile, read_markdown
from corral.agents.files.problems import Problem
from corral.agents.files.reading import read_text
from corral.errors import ConfigError
from corral.runtime.config import Settings, user_file
from corral.runtime.project_file import refused_of_agent
from corral.runtime.sections import AgentConfig

DEFAULT_NAME = "assistant"
"""The agent of a run that names none."""

SUFFIX = ".md"
_MOST_FILES = 100

Owner = Literal["built in", "user", "project"]


@dataclass(frozen=True)
class Entry:
    """An agent by name, or why there is none.

    ``file`` is where it is from; ``None`` for the built-in one, and where only the environment or
    a flag names it. ``markdown`` is what was read where that is a Markdown file.
    """

    name: str
    owner: Owner
    file: Path | None
    config: AgentConfig | None
    problems: tuple[Problem, ...] = ()
    markdown: AgentFile | None = None

    @property
    def origin(self) -> dict[str, str] | None:
        """The Markdown file and the digest of its text."""
        if self.markdown is None:
            return None
        return {"file": str(self.markdown.path), "digest": self.markdown.digest}

    def require(self) -> AgentConfig:
        """The agent. Raises ``ConfigError`` where it cannot be used."""
        if self.config is None:
            raise self.problems[0].error(others=len(self.problems) - 1)
        return self.config


@dataclass(frozen=True)
class Catalog:
    """The agents, sorted by name. ``unused`` are files whose agent another one takes the place of.

    ``problems`` are those of folders.
    """

    entries: tuple[Entry, ...]
    unused: tuple[Entry, ...] = ()
    problems: tuple[Problem, ...] = ()

    def find(self, name: str) -> Entry | None:
        """The agent of a name, usable or not."""
        return next((entry for entry in self.entries if entry.name == name), None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all agents."""
        return tuple(entry.name for entry in self.entries)


def user_folder() -> Path:
    """Where the user's own agents are; it need not exist."""
    return user_file().parent / "agents"


def project_folder(workspace: Path) -> Path:
    """Where a project's agents are; it need not exist."""
    return workspace / ".corral" / "agents"


def is_file_name(agent: str) -> bool:
    """Whether an agent is named by its Markdown file."""
    return agent.endswith(SUFFIX)


def entry_of(path: Path) -> Entry:
    """The agent in a Markdown file that the user names, and which so is the user's own.

    A file that is broken is an entry with its problems; nothing is raised.
    """
    return _entry(path.expanduser().absolute(), None)


def find_agents(settings: Settings) -> Catalog:
    """Read all agents. A file that is broken is an entry with its problems; nothing is raised."""
    problems: list[Problem] = []
    found = [
        *_configured(settings),
        *_in_folder(user_folder(), None, problems),
        *_in_folder(project_folder(settings.workspace), settings.workspace, problems),
    ]
    by_name: dict[str, list[Entry]] = defaultdict(list)
    for entry in found:
        by_name[entry.name].append(entry)
    if DEFAULT_NAME not in by_name:
        by_name[DEFAULT_NAME] = [Entry(DEFAULT_NAME, "built in", None, AgentConfig())]
    chosen = [_chosen(by_name[name]) for name in sorted(by_name)]
    unused = [entry for name in sorted(by_name) for entry in _unused(by_name[name])]
    return Catalog(tuple(chosen), tuple(unused), tuple(problems))


def _configured(settings: Settings) -> Iterator[Entry]:
    for name, config in settings.agents.items():
        file, layer = settings.agents_from.get(name, (None, "user"))
        yield Entry(name, "project" if layer == "project" else "user", file, config)


def _in_folder(folder: Path, project: Path | None, problems: list[Problem]) -> Iterator[Entry]:
    """The agents of a folder; ``project`` is the folder of the project that it comes with."""
    return (_entry(path, project) for path in _files(folder, problems))


def _entry(path: Path, project: Path | None) -> Entry:
    try:
        read = read_markdown(read_text(path, inside=project), path)
    except ConfigError as error:
        problem = Problem(path, None, "", error.message.removesuffix("."), error.hint)
        read = AgentFile(path, path.stem, None, (problem,))
    read = _with_policy_file(read) if project is None else _restrained(read)
    return Entry(
        name=read.name,
        owner="user" if project is None else "project",
        file=path,
        config=read.config,
        problems=read.problems,
        markdown=read,
    )


def _files(folder: Path, problems: list[Problem]) -> Sequence[Path]:
    try:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.name.endswith(SUFFIX) and not path.name.startswith(".")
        )
    except (FileNotFoundError, NotADirectoryError):
        return ()
    except OSError as error:
        what = f"the folder cannot be read: {error.strerror}"
        problems.append(Problem(folder, None, "", what, "Check that you may read it."))
        return ()
    if len(found) > _MOST_FILES:
        what = f"of {len(found)} files only the first {_MOST_FILES} are read"
        problems.append(Problem(folder, None, "", what, "Keep only agents there."))
    return found[:_MOST_FILES]


def _restrained(read: AgentFile) -> AgentFile:
    """A project's agent, if it says nothing that a project may not say."""
    problems = tuple(
        Problem(
            read.path,
            read.line_of(key.partition(" ")[0]),
            key,
            "a project's file may not say this",
            f"If you want it, move the file into your own folder, {user_folder()}.",
        )
        for key in refused_of_agent(read.data)
    )
    return _broken(read, problems) if problems else read


def _with_policy_file(read: AgentFile) -> AgentFile:
    """An agent whose policy is a file: it is found from the agent's own file."""
    policy = read.config.policy if read.config is not None else None
    if read.config is None or policy is None:
        return read
    named = policy.found_from(read.path.parent)
    return replace(read, config=read.config.model_copy(update={"policy": named}))


def _chosen(entries: Sequence[Entry]) -> Entry:
    """Of the agents of one name the one that is meant."""
    own = [entry for entry in entries if entry.owner == "user"] or entries
    if len(own) == 1:
        return own[0]
    places = ", ".join(str(entry.file or "the settings") for entry in own)
    problem = Problem(
        own[-1].file,
        own[-1].markdown.line_of("name") if own[-1].markdown else None,
        "name",
        f"there are {len(own)} agents called {own[0].name!r}: {places}",
        "Give each a name of its own, or remove all but one.",
    )
    return replace(own[-1], config=None, problems=(problem, *_problems(own)))


def _problems(entries: Iterable[Entry]) -> tuple[Problem, ...]:
    return tuple(problem for entry in entries for problem in entry.problems)


def _unused(entries: Sequence[Entry]) -> Iterator[Entry]:
    """The project's agents of a name that the user has an agent of."""
    owns = next((entry for entry in entries if entry.owner == "user"), None)
    for entry in entries if owns is not None else ():
        if owns is not None and entry.owner == "project":
            problem = Problem(
                entry.file,
                None,
                "name",
                f"it is not used, because you have an agent called {entry.name!r} of your own in "
                f"{owns.file or 'the settings'}",
                "Give one of them another name.",
            )
            yield replace(entry, config=None, problems=(problem, *entry.problems))


def _broken(read: AgentFile, problems: tuple[Problem, ...]) -> AgentFile:
    return replace(read, config=None, problems=(*read.problems, *problems))
