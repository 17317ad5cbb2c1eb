"""Corral: a local-first runtime for LLM agents.

    import corral

    async with corral.open() as c:
        result = await c.run("What is in this folder?")

Everything that is exported is loaded when it is first used, so that ``import corral`` is free.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from corral.version import VERSION

if TYPE_CHECKING:
    from corral.agents.app import Corral, open  # noqa: A004  read as corral.open
    from corral.agents.exchange import replay_file
    from corral.agents.extracting import extract
    from corral.agents.kit import Kit, step
    from corral.agents.options import Fork, RunOptions
    from corral.agents.patterns.registry import pattern_graph
    from corral.agents.spec import Agent
    from corral.agents.sync import SyncCorral, open_sync
    from corral.errors import CorralError
    from corral.policies.budgets import Budget
    from corral.policies.checks import Check, check
    from corral.policies.limits import RunLimits
    from corral.policies.prices import Price
    from corral.policies.rules import Policy, Rule
    from corral.runtime.approvals.approvers import ModelApprover
    from corral.runtime.approvals.replies import Always, Approved, Denied, Given, Stopped
    from corral.runtime.config import Settings, load_settings
    from corral.runtime.housekeeping.retention import Retention
    from corral.runtime.models.hosted.model import HostedModel
    from corral.runtime.models.scripted import ScriptedModel
    from corral.runtime.nested import subgraph
    from corral.runtime.views import Approval, EffectView, ReplayReport, RunResult, RunView
    from corral.sandbox.sdk import open_sandbox
    from corral.tools.functions import tool

__version__ = VERSION

_HOMES = {
    "Agent": "corral.agents.spec",
    "Always": "corral.runtime.approvals.replies",
    "Approval": "corral.runtime.views",
    "Approved": "corral.runtime.approvals.replies",
    "Budget": "corral.policies.budgets",
    "Check": "corral.policies.checks",
    "Corral": "corral.agents.app",
    "CorralError": "corral.errors",
    "Denied": "corral.runtime.approvals.replies",
    "EffectView": "corral.runtime.views",
    "Fork": "corral.agents.options",
    "Given": "corral.runtime.approvals.replies",
    "HostedModel": "corral.runtime.models.hosted.model",
    "Kit": "corral.agents.kit",
    "ModelApprover": "corral.runtime.approvals.approvers",
    "Price": "corral.policies.prices",
    "Policy": "corral.policies.rules",
    "ReplayReport": "corral.runtime.views",
    "Retention": "corral.runtime.housekeeping.retention",
    "Rule": "corral.policies.rules",
    "RunLimits": "corral.policies.limits",
    "RunOptions": "corral.agents.options",
    "RunResult": "corral.runtime.views",
    "RunView": "corral.runtime.views",
    "ScriptedModel": "corral.runtime.models.scripted",
    "Settings": "corral.runtime.config",
    "Stopped": "corral.runtime.approvals.replies",
    "SyncCorral": "corral.agents.sync",
    "check": "corral.policies.checks",
    "extract": "corral.agents.extracting",
    "load_settings": "corral.runtime.config",
    "open": "corral.agents.app",
    "open_sandbox": "corral.sandbox.sdk",
    "open_sync": "corral.agents.sync",
    "pattern_graph": "corral.agents.patterns.registry",
    "replay_file": "corral.agents.exchange",
    "step": "corral.agents.kit",
    "subgraph": "corral.runtime.nested",
    "tool": "corral.tools.functions",
}

__all__ = [
    "Agent",
    "Always",
    "Approval",
    "Approved",
    "Budget",
    "Check",
    "Corral",
    "CorralError",
    "Denied",
    "EffectView",
    "Fork",
    "Given",
    "HostedModel",
    "Kit",
    "ModelApprover",
    "Policy",
    "Price",
    "ReplayReport",
    "Retention",
    "Rule",
    "RunLimits",
    "RunOptions",
    "RunResult",
    "RunView",
    "ScriptedModel",
    "Settings",
    "Stopped",
    "SyncCorral",
    "check",
    "extract",
    "load_settings",
    "open",
    "open_sandbox",
    "open_sync",
    "pattern_graph",
    "replay_file",
    "step",
    "subgraph",
    "tool",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'corral' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
