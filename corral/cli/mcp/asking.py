"""Asking before something is written or started."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from corral.cli.output import note
from corral.errors import UsageError


def confirm(question: str, *, yes: bool, undone: str) -> None:
    """Ask on a terminal, unless the answer is ``yes`` already.

    ``undone`` says what is not done then. Raises ``UsageError`` where nobody can answer,
    ``typer.Exit`` with 1 for a no, and ``typer.Abort`` for Ctrl-C.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("Nobody is here to be asked.", hint=f"Add --yes to answer yes; {undone}.")
    if not agrees(question):
        note(f"No: {undone}.")
        raise typer.Exit(1)


def agrees(question: str) -> bool:
    """Ask for a yes or a no."""
    with _own_line_after_abort():
        return typer.confirm(question, err=True)


def told(question: str) -> str:
    """Ask for a word; empty: none was given."""
    with _own_line_after_abort():
        given: str = typer.prompt(question, default="", show_default=False, err=True)
        return given.strip()


@contextmanager
def _own_line_after_abort() -> Iterator[None]:
    """What follows a Ctrl-C begins on a line of its own."""
    try:
        yield
    except typer.Abort:
        note("")
        raise
