"""How our own tool servers are configured: ``[python]``, ``[web]``, ``[sql.NAME]`` and others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from corral.sandbox.contract import Limits, MiB

Size = Annotated[float, Field(gt=0)]
BuiltinName = Literal["files", "python", "shell", "web", "sql", "git"]
BUILTIN_SERVERS: tuple[str, ...] = get_args(BuiltinName)
"""The names of the servers that come with Corral."""
RESERVED_NAMES = (*BUILTIN_SERVERS, "memory", "results", "tools")
"""What no external server may be called: the names of all of Corral's own."""


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SandboxLimits(_Section):
    """``[sandbox_limits]``: limits of every tool server's process tree; ``None``: the default."""

    memory_mb: Size | None = Field(default=None, description="Memory of the whole tree.")
    processes: int | None = Field(default=None, ge=1, description="Processes and threads.")
    cpu_seconds: int | None = Field(default=None, ge=1, description="Processor time of the tree.")
    open_files: int | None = Field(default=None, ge=16, description="Open files of one process.")
    file_size_mb: Size | None = Field(default=None, description="The largest file.")
    written_mb: Size | None = Field(
        default=None, description="What the folders that it may change can grow by."
    )
    tmp_mb: Size | None = Field(default=None, description="Its private /tmp.")

    def over(self, base: Limits) -> Limits:
        """``base`` with what is set here."""
        sizes = {
            "memory": self.memory_mb,
            "file_size": self.file_size_mb,
            "written": self.written_mb,
            "tmp_size": self.tmp_mb,
        }
        counts = {
            "processes": self.processes,
            "cpu_seconds": self.cpu_seconds,
            "open_files": self.open_files,
        }
        bytes_ = {name: int(size * MiB) for name, size in sizes.items() if size is not None}
        known = {name: count for name, count in counts.items() if count is not None}
        return replace(base, **bytes_, **known)


class PythonSettings(_Section):
    """``[python]``: where model-written code runs, and what it may import."""

    backend: Literal["local", "e2b", "monty"] = Field(
        default="local", description="local: the sandbox of the setting `sandbox`."
    )
    packages: tuple[str, ...] = Field(
        default=(), description="Packages that code may import, installed ahead: numpy==2.3.4."
    )
    allowed_packages: tuple[str, ...] = Field(
        default=("numpy", "pandas", "matplotlib"),
        description="What the tool install_packages may add.",
    )
    warm: int = Field(default=1, ge=0, le=16, description="Interpreters that wait ready.")
    preload: tuple[str, ...] = Field(
        default=(), description="Modules that every interpreter has imported already: numpy."
    )


class E2BSettings(_Section):
    """``[e2b]``: the hosted sandbox. The key is read from the variable ``api_key_env``."""

    api_key_env: str = Field(default="E2B_API_KEY", description="The variable with the key.")
    domain: str | None = Field(default=None, description="The service's domain.")
    api_url: str | None = Field(default=None, description="The control plane, instead.")
    sandbox_url: str | None = Field(default=None, description="The sandboxes' address, instead.")
    template: str | None = Field(default=None, description="The template to start from.")
    timeout: float = Field(default=300.0, gt=0, description="Seconds that a sandbox lives unused.")


class SearchSettings(_Section):
    """``[web.search]``: who is asked when the model searches."""

    provider: Literal["none", "searxng", "brave", "tavily"] = "none"
    url: str | None = Field(default=None, description="The provider's address; SearXNG needs it.")
    api_key_env: str | None = Field(default=None, description="The variable with the key.")


class WebSettings(_Section):
    """``[web]``: what the web server may reach. Without ``allow`` it reaches nothing."""

    allow: tuple[str, ...] = Field(
        default=(), description="Hosts: docs.python.org, *.wikipedia.org, or * for all public ones."
    )
    private: tuple[str, ...] = Field(
        default=(), description="host:port pairs of the own network that may be reached as well."
    )
    robots: bool = Field(default=True, description="Whether robots.txt is followed.")
    max_mb: Size = Field(default=10, description="The largest answer that is read.")
    search: SearchSettings = SearchSettings()


class SqlSettings(_Section):
    """``[sql.NAME]``: one database that may be queried: a file, or a PostgreSQL server."""

    path: Path | None = Field(default=None, description="A SQLite or DuckDB file.")
    kind: Literal["sqlite", "duckdb", "postgres"] | None = Field(
        default=None, description="What it is; found out from the file when left out."
    )
    url_env: str | None = Field(
        default=None, description="The variable with a postgresql:// URL, password included."
    )
    write: bool = Field(default=False, description="true: statements may change it.")
    max_rows: int = Field(default=1000, ge=1, description="Rows of one answer.")
    timeout: float = Field(default=30.0, gt=0, description="Seconds for one statement.")

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.path is None) == (self.url_env is None):
            raise ValueError("needs either path or url_env, and not both")
        if (self.kind == "postgres") != (self.url_env is not None) and self.kind is not None:
            raise ValueError("kind postgres goes with url_env, the others with path")
        return self


class GitSettings(_Section):
    """``[git]``: whose commits the git server makes, and in which folder."""

    repository: Path | None = Field(default=None, description="The workspace when left out.")
    author: str | None = Field(default=None, description='"Name <mail>"; git\'s own when left out.')


class BuiltinSettings(_Section):
    """Everything that our own servers are made with. ``packages_home`` holds the layers of
    Python packages; ``None``: there are none. ``home`` is Corral's own folder.
    """

    python: PythonSettings = PythonSettings()
    e2b: E2BSettings = E2BSettings()
    web: WebSettings = WebSettings()
    sql: dict[str, SqlSettings] = Field(default_factory=dict)
    git: GitSettings = GitSettings()
    limits: SandboxLimits = SandboxLimits()
    packages_home: Path | None = None
    home: Path | None = None
