"""ReAct as a pattern: the loop itself is in ``corral.agents.react``."""

from __future__ import annotations

from corral.agents.kit import Kit
from corral.agents.patterns.contract import Graph, Pattern
from corral.agents.react import ReactOptions, ReactProgram
from corral.agents.verification import Verification

NAME = "react"


def loop(kit: Kit, options: ReactOptions) -> ReactProgram:
    """The loop of the kit's agent, with the check of its answers that the options want."""
    verify = Verification(kit, options).check if options.verify else None
    return ReactProgram(kit.agent, kit.services.model_ref, kit.services, options, verify=verify)


def build(kit: Kit, options: ReactOptions) -> Graph:
    """The graph of the loop."""
    return loop(kit, options).graph()


PATTERN = Pattern(
    name=NAME,
    summary="The model acts through tools until it answers.",
    source="Yao et al. 2023, ReAct: Synergizing Reasoning and Acting, arXiv:2210.03629",
    options=ReactOptions,
    build=build,
    hands_over=True,
)
