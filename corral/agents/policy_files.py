"""The policy of a run: the settings' rules, then those of a preset or of a file."""

from __future__ import annotations

from pathlib import Path

from corral.errors import ConfigError
from corral.policies.parse import find_preset, parse_policy
from corral.policies.presets import PRESETS
from corral.policies.rules import Policy
from corral.runtime.config import Settings


def absolute_policy(policy: str | None) -> str | None:
    """The policy as a resume from another folder finds it."""
    if policy is None or not _is_file(policy):
        return policy
    return str(Path(policy).expanduser().absolute())


def _is_file(policy: str) -> bool:
    return policy.endswith(".toml") or "/" in policy


def load_policy(settings: Settings, policy: str | None) -> Policy:
    """The rules of the settings, then those of ``policy``: a preset's name or a file.

    Raises ``ConfigError``: where policy cannot be loaded, nothing runs.
    """
    chosen = policy or settings.policy
    path = Path(chosen).expanduser()
    if _is_file(chosen):
        try:
            base = parse_policy(path.read_text(encoding="utf-8"), str(path.absolute()))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"The policy file {path} cannot be read: {error}.",
                hint="Check that the file is there and that you may read it, or name a preset: "
                + ", ".join(PRESETS),
            ) from error
    else:
        base = find_preset(chosen)
    if not settings.rules:
        return base
    return Policy(name=settings.rules_from or "the settings", rules=settings.rules, base=base)
