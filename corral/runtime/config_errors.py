"""What is wrong with a configuration, in words: the file, the key, and what to write instead."""

from __future__ import annotations

import difflib
from pathlib import Path

from pydantic import BaseModel, ValidationError

from corral.errors import ConfigError
from corral.jsontypes import JsonObject
from corral.policies.budgets import Budget, Budgets
from corral.policies.checks import Check
from corral.policies.limits import RunLimits
from corral.policies.loops import LoopSettings
from corral.policies.prices import Price
from corral.policies.rules import Rule
from corral.runtime.approvals.settings import ApprovalSettings
from corral.runtime.caching.settings import CacheSettings
from corral.runtime.models.combined.settings import CombinedModel
from corral.runtime.models.hosted.settings import HostedSettings
from corral.runtime.models.local.settings import LocalSettings
from corral.runtime.provenance_settings import ProvenanceSettings
from corral.runtime.redaction_settings import RedactionSettings
from corral.runtime.sections import AgentConfig, RetentionConfig, SnapshotConfig
from corral.runtime.serve_settings import ServeSettings
from corral.tools.config import ServerConfig
from corral.tools.settings import (
    E2BSettings,
    GitSettings,
    PythonSettings,
    SandboxLimits,
    SqlSettings,
    WebSettings,
)


def explained(
    error: ValidationError, files: list[tuple[Path, JsonObject]], settings: type[BaseModel]
) -> ConfigError:
    """The first problem of a validation, in words, with the file that it stands in."""
    problem = error.errors()[0]
    inner = problem.get("ctx", {}).get("error")
    if isinstance(inner, ConfigError):
        return inner
    keys = [str(part) for part in problem["loc"]]
    where = next((str(path) for path, data in files if keys and keys[0] in data), "the settings")
    name = ".".join(keys) or "settings"
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(keys[-1], _names(keys, settings), n=1)
        hint = (
            f"Did you mean {close[0]!r}?" if close else "Remove it, or see docs/configuration.md."
        )
        return ConfigError(f"{where}: there is no setting {name!r}.", hint=hint)
    said = problem["msg"].removeprefix("Value error, ").removesuffix(".")
    said = said.replace("valid tuple", "list")  # TOML has no tuples
    return ConfigError(f"{where}: {name}: {said}.", hint="See docs/configuration.md.")


_SECTIONS: dict[str, type[BaseModel]] = {
    "mcp": ServerConfig,
    "agents": AgentConfig,
    "serve": ServeSettings,
    "limits": RunLimits,
    "loops": LoopSettings,
    "rules": Rule,
    "models": CombinedModel,
    "local": LocalSettings,
    "hosted": HostedSettings,
    "cache": CacheSettings,
    "retention": RetentionConfig,
    "prices": Price,
    "snapshots": SnapshotConfig,
    "python": PythonSettings,
    "e2b": E2BSettings,
    "web": WebSettings,
    "sql": SqlSettings,
    "git": GitSettings,
    "sandbox_limits": SandboxLimits,
    "approvals": ApprovalSettings,
    "provenance": ProvenanceSettings,
    "redaction": RedactionSettings,
    "checks": Check,
}
"""What stands under each name at the top of a file."""


def _names(keys: list[str], settings: type[BaseModel]) -> list[str]:
    if keys[0] == "budgets":
        return list((Budgets if len(keys) < 3 else Budget).model_fields)
    return list(_SECTIONS.get(keys[0], settings).model_fields)
