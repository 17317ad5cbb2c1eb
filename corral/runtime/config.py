"""Configuration: flags > environment > project ``corral.toml`` > user file > defaults.

One model describes every setting. What a project's file may not decide is in
``project_file.py``: it counts only in the user's own file, in the environment, as a flag, or in a
file that the user names with ``--config``.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Literal

import platformdirs
from pydantic import Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from corral.errors import ConfigError
from corral.jsontypes import JsonObject
from corral.policies.budgets import Budgets
from corral.policies.checks import Check
from corral.policies.limits import RunLimits
from corral.policies.loops import LoopSettings
from corral.policies.prices import Price
from corral.policies.rules import LayerName, Policy, Rule
from corral.runtime.approvals.settings import ApprovalSettings
from corral.runtime.budgets.settings import tightened
from corral.runtime.caching.settings import CacheSettings
from corral.runtime.config_errors import explained
from corral.runtime.models.combined.references import ModelReference, check_names
from corral.runtime.models.combined.settings import CombinedModel
from corral.runtime.models.hosted.settings import HostedSettings
from corral.runtime.models.local.settings import LocalSettings
from corral.runtime.policy_layers import file_layer, has_layer, without_layer
from corral.runtime.previews import LEAST
from corral.runtime.project_file import restrain
from corral.runtime.provenance_settings import ProvenanceSettings
from corral.runtime.redaction_settings import RedactionSettings, with_users_own
from corral.runtime.sections import (
    AgentConfig,
    RetentionConfig,
    SamplingConfig,
    SnapshotConfig,
)
from corral.runtime.serve_settings import ServeSettings
from corral.tools.config import ServerConfig, check_server_name
from corral.tools.router.settings import ToolsSettings
from corral.tools.settings import (
    RESERVED_NAMES,
    BuiltinName,
    BuiltinSettings,
    E2BSettings,
    GitSettings,
    PythonSettings,
    SandboxLimits,
    SqlSettings,
    WebSettings,
)

PROJECT_FILE = "corral.toml"


def _here() -> Path:
    try:
        return Path.cwd()
    except OSError as error:
        raise ConfigError(
            f"The current folder cannot be used: {error.strerror}.",
            hint="Go to a folder that exists, or name one: --workspace DIR.",
        ) from error


class Settings(BaseSettings):
    """All settings. Read them with ``load_settings``."""

    model_config = SettingsConfigDict(
        env_prefix="CORRAL_", env_nested_delimiter="__", extra="forbid", frozen=True
    )

    home: Path = Field(
        default_factory=lambda: platformdirs.user_data_path("corral"),
        description="Where Corral keeps its state.",
    )
    database_url: str = Field(default="", description="Overrides the database in ``home``.")
    workspace: Path = Field(
        default_factory=_here, description="The folder that agents may work in."
    )
    config: Path | None = Field(default=None, description="A configuration file to read last.")
    model: ModelReference = Field(
        default="local", description="The model of agents that name none; several fall back."
    )
    base_url: str | None = Field(default=None, description="An OpenAI-shaped endpoint.")
    context_window: int | None = Field(default=None, ge=256, description="In tokens.")
    models: dict[str, CombinedModel] = Field(
        default_factory=dict, description="Several models under one name."
    )
    local: LocalSettings = LocalSettings()
    hosted: HostedSettings = HostedSettings()
    cache: CacheSettings = CacheSettings()
    policy: str = Field(default="ask", description="A preset's name or a policy file.")
    rules: tuple[Rule, ...] = Field(default=(), description="Rules before those of the policy.")
    limits: RunLimits = RunLimits()
    loops: LoopSettings = LoopSettings()
    budgets: Budgets = Budgets()
    prices: dict[str, Price] = Field(
        default_factory=dict, description="Prices of models, in US dollars for a million tokens."
    )
    sampling: SamplingConfig = SamplingConfig()
    retention: RetentionConfig = RetentionConfig()
    tool_timeout: float = Field(default=120.0, gt=0, description="Seconds for one tool call.")
    max_tool_output: int = Field(
        default=400_000, ge=1000, description="Characters kept of a result."
    )
    tool_preview: int | None = Field(
        default=None,
        ge=LEAST,
        description="Characters of a longer result that a model is shown; by its window if left "
        "out.",
    )
    tools: ToolsSettings = ToolsSettings()
    sandbox: Literal["bubblewrap", "landlock", "gvisor", "seatbelt", "strongest", "none"] = Field(
        default="bubblewrap" if sys.platform == "linux" else "seatbelt",
        description="How tool servers are isolated; none runs them with your own rights.",
    )
    sandbox_require: tuple[str, ...] = Field(
        default=(), description="What the sandbox must enforce, else nothing is started."
    )
    sandbox_limits: SandboxLimits = SandboxLimits()
    servers: tuple[BuiltinName, ...] = Field(
        default=("files", "python"), description="Which of Corral's own tool servers are offered."
    )
    python: PythonSettings = PythonSettings()
    e2b: E2BSettings = E2BSettings()
    web: WebSettings = WebSettings()
    sql: dict[str, SqlSettings] = Field(default_factory=dict, description="Databases by name.")
    git: GitSettings = GitSettings()
    snapshots: SnapshotConfig = SnapshotConfig()
    approvals: ApprovalSettings = ApprovalSettings()
    provenance: ProvenanceSettings = ProvenanceSettings()
    redaction: RedactionSettings = RedactionSettings()
    checks: tuple[Check, ...] = Field(
        default=(), description="What looks at prompts, answers, calls and results of all agents."
    )
    otlp_endpoint: str | None = Field(
        default=None, description="An OpenTelemetry collector that runs are sent to as they go on."
    )
    otlp_content: bool = Field(
        default=False, description="Send it what was said, too, and not only the figures."
    )
    mcp: dict[str, ServerConfig] = Field(default_factory=dict, description="External servers.")
    serve: ServeSettings = ServeSettings()
    agents: dict[str, AgentConfig] = Field(default_factory=dict)
    _policies: tuple[Policy, ...] = PrivateAttr(default=())
    _agents_from: Mapping[str, tuple[Path, LayerName]] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: dict[str, Any]) -> dict[str, Any]:
        for key in ("home", "workspace"):
            if key in data:
                data[key] = Path(data[key]).expanduser().absolute()
        return data

    @model_validator(mode="after")
    def _check_names(self) -> Settings:
        check_names(self.models)
        for name in self.mcp:
            check_server_name(name)
            if name in RESERVED_NAMES:
                raise ConfigError(
                    f"[mcp.{name}]: {name!r} is the name of a server that Corral brings.",
                    hint="Choose another name.",
                )
        return self

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The rules of the configuration files, the most important file first."""
        return self._policies

    @property
    def agents_from(self) -> Mapping[str, tuple[Path, LayerName]]:
        """The file that makes an agent, and whose it is: the user's own, if it names the agent."""
        return self._agents_from

    @property
    def sandboxed_servers(self) -> frozenset[str]:
        """The tool servers that run in a sandbox of this machine."""
        local = {name for name, one in self.mcp.items() if one.command and one.sandbox}
        inside = set() if self.sandbox == "none" else {*self.servers, *local}
        if self.python.backend == "monty" and "python" in self.servers:
            inside.add("python")
        return frozenset(inside - self.remote_servers)

    @property
    def networked_servers(self) -> frozenset[str]:
        """The sandboxed servers that can reach something from there."""
        reaching = {name for name, server in self.mcp.items() if server.network}
        if self.web.allow or self.web.private or self.web.search.provider != "none":
            reaching.add("web")
        if any(database.url_env for database in self.sql.values()):
            reaching.add("sql")
        return self.sandboxed_servers & reaching

    @property
    def remote_servers(self) -> frozenset[str]:
        """The tool servers that are elsewhere: those with a URL, and Python code at E2B."""
        elsewhere = {name for name, server in self.mcp.items() if server.url is not None}
        return frozenset(elsewhere | ({"python"} if self.python.backend == "e2b" else set()))

    @property
    def builtin(self) -> BuiltinSettings:
        """What our own tool servers are made with."""
        return BuiltinSettings(
            python=self.python,
            e2b=self.e2b,
            web=self.web,
            sql=self.sql,
            git=self.git,
            limits=self.sandbox_limits,
            packages_home=self.home / "packages",
            home=self.home,
        )

    @property
    def database(self) -> str:
        """The URL of the database in use."""
        return self.database_url or f"sqlite:///{self.home / 'corral.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  no .env file is read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  nor secret files
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, then the environment, then the files of ``load_settings``."""
        files = (_Parsed(settings_cls, data) for data in _files.get())
        return (init_settings, env_settings, *files)


class _Parsed(PydanticBaseSettingsSource):
    """A configuration file that has been read already."""

    def __init__(self, settings_cls: type[BaseSettings], data: JsonObject) -> None:
        super().__init__(settings_cls)
        self._data = data

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        del field
        return self._data.get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        return dict(self._data)


_files: ContextVar[tuple[JsonObject, ...]] = ContextVar("corral_config_files", default=())


def load_settings(overrides: Mapping[str, Any] = {}) -> Settings:
    """The settings, with ``overrides`` (flags) over everything else.

    Raises ``ConfigError`` that names the file, the key and what to write instead.
    """
    workspace = Path(overrides.get("workspace") or _here()).expanduser()
    found = list(_read_files(overrides.get("config"), workspace))
    layered: list[tuple[Path, JsonObject, LayerName]] = [
        (path, data, _layer(path, overrides, workspace)) for path, data in found
    ]
    token = _files.set(tuple(without_layer(data, layer) for _, data, layer in layered))
    try:
        settings = Settings(**overrides)
        settings._policies = tuple(
            file_layer(path, data, layer) for path, data, layer in layered if has_layer(data, layer)
        )
        settings._agents_from = {
            name: (path, layer)
            for whose in ("project", "user")
            for path, data, layer in reversed(layered)
            for name in data.get("agents", ())
            if layer == whose
        }
        return settings
    except ValidationError as error:
        raise explained(error, found, Settings) from error
    except SettingsError as error:
        raise ConfigError(
            f"The environment cannot be understood: {error}.",
            hint="What has several parts is written as JSON, for example "
            """CORRAL_LIMITS='{"max_steps": 5}'; see docs/configuration.md.""",
        ) from error
    finally:
        _files.reset(token)


def _layer(path: Path, overrides: Mapping[str, Any], workspace: Path) -> LayerName:
    """Whose rules stand in a file. A file that the user names is the user's, wherever it is."""
    is_project = path == workspace / PROJECT_FILE and path != overrides.get("config")
    return "project" if is_project else "user"


def user_file() -> Path:
    """The user's own configuration file; it need not exist."""
    return platformdirs.user_config_path("corral") / "config.toml"


def _read_files(named: Path | None, workspace: Path) -> Iterator[tuple[Path, JsonObject]]:
    """The files that there are, the most important one first."""
    users: list[tuple[Path, JsonObject]] = []
    if user_file().is_file():
        users = [(user_file(), _read(user_file()))]
    own: list[tuple[Path, JsonObject]] = []
    if named is not None:
        own = [(named, _read(named))]
    yield from own
    project = workspace / PROJECT_FILE
    if project.is_file() and project != named:
        theirs = users[0][1] if users else {}
        known = [data for _, data in (*own, *users)]
        data = restrain(project, _read(project), user_file(), known)
        yield project, with_users_own(tightened(data, theirs), theirs)
    yield from users


def _read(path: Path) -> JsonObject:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}.",
            hint="Check that the file is there and that you may read it.",
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path} is not a UTF-8 text file.", hint="Save it as UTF-8 and try again."
        ) from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(
            f"{path} is not valid TOML: {error}.", hint="Correct the file and try again."
        ) from error
