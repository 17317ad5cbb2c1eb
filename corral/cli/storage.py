"""What is kept: ``gc``, ``delete``, ``pin`` and ``unpin``. No graph and no model is imported."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current, open_records, wait
from corral.cli.inspection import JsonOption, RunArgument
from corral.cli.output import clean, emit, note, one_line
from corral.errors import UsageError

if TYPE_CHECKING:
    from corral.runtime.housekeeping.deletion import Deleted, Deletion
    from corral.runtime.housekeeping.retention import Collected, Retention
    from corral.runtime.views import RunView

_SHOWN = 5


def gc(
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Take runs older than this: 12h, 30d, 8w.")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Keep each thread's newest N runs.")
    ] = None,
    thread: Annotated[
        list[str] | None, typer.Option(metavar="T", help="Only this thread; may be repeated.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove old runs and what nothing needs, and give the disk space back."""
    found = wait(_gc(older_than, keep, tuple(thread or ()), dry_run=dry_run))
    if json:
        emit(found.to_json())
    else:
        _tell_collected(found)


async def _gc(
    older_than: str | None, keep: int | None, threads: tuple[str, ...], *, dry_run: bool
) -> Collected:
    retention = _retention(older_than, keep, threads)
    async with open_records() as records:
        return await records.gc(retention, dry_run=dry_run)


def _retention(older_than: str | None, keep: int | None, threads: tuple[str, ...]) -> Retention:
    """What the options ask for; without any, what the settings say."""
    from corral.runtime.housekeeping.retention import Retention, parse_age

    if older_than is None and keep is None:
        configured = current().settings().retention
        older_than, keep = configured.older_than, configured.keep
    age = parse_age(older_than) if older_than else None
    return Retention(older_than=age, keep=keep, threads=threads)


def _tell_collected(found: Collected) -> None:
    would = "would be " if found.dry_run else ""
    parts = [
        _count(len(found.runs), "run"),
        _count(len(found.threads), "whole thread"),
        _count(found.checkpoints, "checkpoint"),
        _count(found.contents, "content"),
        _count(found.orphans, "orphan row"),
        _count(found.states, "saved conversation"),
    ]
    some = ", ".join(part for part in parts if part)
    sys.stdout.write(f"{some} {would}removed\n" if some else "nothing to remove\n")
    kept = {
        "can still go on": found.kept.unfinished,
        "pinned": found.kept.pinned,
        "shared by a fork": found.kept.forked,
    }
    if why := ", ".join(f"{count} {reason}" for reason, count in kept.items() if count):
        sys.stdout.write(f"kept, old as they are: {why}\n")
    about = "about " if found.dry_run else ""
    sys.stdout.write(f"{size(found.bytes_before)} before, {about}{size(found.bytes_after)} after\n")
    if found.note:
        note(found.note)


def delete(
    thread: Annotated[
        str, typer.Argument(metavar="THREAD", help="A thread's id, or its beginning.")
    ],
    with_forks: Annotated[
        bool, typer.Option("--with-forks", help="Delete also what was forked from it.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    json: JsonOption = False,
) -> None:
    """Delete a conversation for good, with all that belongs to it."""
    found = wait(_look(thread, with_forks=with_forks))
    if not yes:
        _confirm(found)
    deleted = wait(_delete(found, with_forks=with_forks))
    if json:
        emit(deleted.to_json())
    else:
        _tell_deleted(deleted)


def _confirm(found: Deletion) -> None:
    """Ask on a terminal. Raises ``UsageError`` where nobody can answer."""
    if not sys.stdin.isatty():
        raise UsageError(
            f"Deleting {found.threads[0]} cannot be undone, and nobody is here to be asked.",
            hint="Add --yes to do it all the same; nothing was deleted.",
        )
    what = [_count(len(found.threads), "thread"), _count(len(found.runs), "run")]
    note(f"This deletes {', '.join(part for part in what if part)}, for good:")
    for prompt in found.prompts[:_SHOWN]:
        note(f"  {one_line(prompt, 80)}")
    if len(found.prompts) > _SHOWN:
        note(f"  … and {len(found.prompts) - _SHOWN} more")
    typer.confirm("Delete?", abort=True, err=True)


async def _look(thread: str, *, with_forks: bool) -> Deletion:
    from corral.runtime.housekeeping.deletion import look

    async with open_records() as records:
        return await records.database.read(lambda c: look(c, thread, with_forks=with_forks))


async def _delete(found: Deletion, *, with_forks: bool) -> Deleted:
    async with open_records() as records:
        deleted = await records.delete(found.threads[0], with_forks=with_forks)
    _forget_what_was_typed(found.prompts)
    return deleted


def _forget_what_was_typed(prompts: Sequence[str]) -> None:
    """Take the prompts out of the REPL's history too."""
    from corral.cli.chat import history
    from corral.runtime.secrets import redactor_of

    settings = current().settings()
    redact = redactor_of(settings).text
    path = settings.home / history.FILE
    try:
        history.forget(path, {prompt.strip() for prompt in prompts}, redact)
    except OSError as error:
        note(f"{path} may still hold what was typed: {error.strerror}")


def _tell_deleted(deleted: Deleted) -> None:
    parts = [
        _count(len(deleted.threads), "thread"),
        _count(len(deleted.runs), "run"),
        _count(deleted.contents, "content"),
        _count(deleted.memories, "fact"),
        _count(deleted.states, "saved conversation"),
    ]
    sys.stdout.write(f"deleted: {', '.join(part for part in parts if part)}\n")
    sys.stdout.write(f"{size(deleted.bytes_before)} before, {size(deleted.bytes_after)} after\n")
    if deleted.note:
        note(deleted.note)


def pin(run: RunArgument, json: JsonOption = False) -> None:
    """Keep a run: gc never takes it, nor what it needs."""
    _tell_pin(wait(_pin(run, pinned=True)), json=json)


def unpin(run: RunArgument, json: JsonOption = False) -> None:
    """Let gc take a run again when it is old enough."""
    _tell_pin(wait(_pin(run, pinned=False)), json=json)


async def _pin(run: str, *, pinned: bool) -> RunView:
    from corral.runtime.housekeeping.retention import pin as set_pin

    async with open_records() as records:
        found = await records.database.write(lambda c: set_pin(c, run, pinned=pinned))
        return await records.run(found)


def _tell_pin(view: RunView, *, json: bool) -> None:
    if json:
        emit(view.to_json())
    else:
        note(f"run {clean(view.run)} is {'pinned' if view.pinned else 'no longer pinned'}")


def size(count: int) -> str:
    """A number of bytes as a person reads it."""
    value = float(count)
    for unit in ("bytes", "KB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}" if number else ""
