"""The option ``--rule``: rules of one session, which only narrow what the others allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from corral.policies.rules import Rule

RulesOption = Annotated[
    list[str] | None,
    typer.Option("--rule", metavar="TOML", help="A rule of this session; may be repeated."),
]


def session_rules(texts: Sequence[str] | None) -> tuple[Rule, ...]:
    """The rules of ``--rule`` options. Raises ``ConfigError``."""
    if not texts:
        return ()
    from corral.policies.writing.parse import parse_rule  # pydantic: not needed for --help

    return tuple(parse_rule(text, "--rule") for text in texts)
