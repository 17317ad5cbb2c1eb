"""Asking before something is written or started."""

from __future__ import annotations

import sys

import typer

from corral.errors import UsageError


def confirm(question: str, *, yes: bool, undone: str) -> None:
    """Ask on a terminal, unless the answer is ``yes`` already.

    ``undone`` says what was not done, where nobody can answer. Raises ``UsageError`` there, and
    ``typer.Abort`` for a no.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("Nobody is here to be asked.", hint=f"Add --yes to answer yes; {undone}.")
    typer.confirm(question, abort=True, err=True)
