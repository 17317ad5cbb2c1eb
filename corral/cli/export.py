"""Runs that leave this machine and come in: ``export`` and ``import``.

Neither imports a graph engine, unless the run's thread is older than the run: what that held
before is part of the export, and only its graph can tell it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer

from corral.cli.context import current, open_records, open_runtime, wait
from corral.cli.inspection import JsonOption, RunArgument
from corral.cli.options import taking
from corral.cli.output import emit, note
from corral.errors import UsageError

if TYPE_CHECKING:
    from typing import BinaryIO

    from corral.runtime.export.importer import Imported
    from corral.runtime.records import Records
    from corral.runtime.runs import RunRow
    from corral.runtime.views import Approval, EffectView, RunView

FORMATS = ("html", "jsonl", "otlp", "test", "eval_case")

CASES = "cases.yaml"
"""The set of cases that ``--eval-case`` adds to when no other is named."""

STANDARD = "-"


@dataclass(frozen=True)
class Options:
    """The options of ``corral export``."""

    html: Annotated[bool, typer.Option("--html", help="A page for a browser.")] = False
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Everything, for `corral import` elsewhere.")
    ] = False
    otlp: Annotated[
        bool, typer.Option("--otlp", help="Send OpenTelemetry spans to a collector.")
    ] = False
    test: Annotated[
        bool, typer.Option("--test", help="A pytest file that replays the run, and its data.")
    ] = False
    eval_case: Annotated[
        bool, typer.Option("--eval-case", help=f"A case for `corral eval run`, in {CASES}.")
    ] = False
    scrub: Annotated[
        bool, typer.Option("--scrub", help="Take all content out; shape and figures stay.")
    ] = False
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="A file, or a folder; - is standard output."
        ),
    ] = None
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="The collector that --otlp sends to.")
    ] = None
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False

    @property
    def formats(self) -> list[str]:
        """The formats that are asked for, in their order."""
        return [name for name in FORMATS if getattr(self, name)]


@taking(Options)
def export(run: RunArgument, options: Options) -> None:
    """Write a run to files that others can open, replay or test with.

    Several formats may be written at once; -o then names a folder. Without -o the files are
    written here, named after the run.
    """
    _require_sense(options)
    wait(_export(run, options))


def _require_sense(options: Options) -> None:
    formats = options.formats
    if not formats:
        raise UsageError(
            "Say what to write.",
            hint="Choose one or more of --html, --jsonl, --otlp, --test and --eval-case.",
        )
    replayed = [_flag(name) for name in ("test", "eval_case") if name in formats]
    if options.scrub and replayed:
        raise UsageError(
            f"{replayed[0]} needs the content of the run, and --scrub takes it out.",
            hint="Leave --scrub out, or write --html or --jsonl.",
        )
    if options.endpoint is not None and not options.otlp:
        raise UsageError("--endpoint says where --otlp sends to.", hint="Add --otlp.")
    if str(options.output) == STANDARD and formats not in (["html"], ["jsonl"]):
        raise UsageError(
            "-o - writes one format, --html or --jsonl, to standard output.",
            hint="Name a folder with -o instead.",
        )


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


@dataclass(frozen=True)
class _Job:
    """One export, with the database open."""

    options: Options
    records: Records
    row: RunRow

    async def views(self) -> tuple[RunView, list[EffectView], list[Approval]]:
        """The run, its journal and its questions, without their content if that is asked for."""
        run = await self.records.run(self.row.id)
        effects = await self.records.trace(self.row.id)
        approvals = await self.records.approvals(run=self.row.id, status=None)
        if not self.options.scrub:
            return run, effects, approvals
        from corral.runtime.export.scrub import Scrubber

        scrub = Scrubber()
        bare = [scrub.effect(effect) for effect in effects]
        return scrub.run(run), bare, [scrub.approval(approval) for approval in approvals]

    def path(self, default: str) -> Path:
        """Where a format of one file goes; ``default`` is its name when none is given."""
        given = self.options.output
        if given is None:
            return Path(default)
        files = [name for name in self.options.formats if name != "otlp"]
        if len(files) > 1 or given.is_dir():
            return self.folder() / default
        return given

    def folder(self) -> Path:
        """Where a format of several files goes. It is made if it is not there."""
        path = self.options.output or Path()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(
                f"{path} cannot be used as a folder: {error.strerror}.",
                hint="Name a folder with -o: several files are to be written.",
            ) from error
        return path

    @property
    def stem(self) -> str:
        """What the names of files begin with."""
        return f"run-{self.row.id.removeprefix('r-')}"


async def _export(run: str, options: Options) -> None:
    from corral.runtime import runs

    writers = {
        "html": _html,
        "jsonl": _jsonl,
        "otlp": _otlp,
        "test": _test,
        "eval_case": _eval_case,
    }
    async with open_records() as records:
        row = await records.database.read(lambda connection: runs.load(connection, run))
        for name in options.formats:
            await writers[name](_Job(options, records, row))


async def _html(job: _Job) -> None:
    from corral.runtime.export.html import render_html

    run, effects, approvals = await job.views()
    path = job.path(f"{job.stem}.html")
    with _target(path, job.options) as target:
        target.write(render_html(run, effects, approvals).encode())
    _tell(path, f"{len(effects)} effects")


async def _jsonl(job: _Job) -> None:
    path, scrubbed = job.path(f"{job.stem}.jsonl"), job.options.scrub
    with _target(path, job.options) as target:
        count = await _write_lines(job, target)
    _tell(path, f"{count} effects" + (", without content: for reading only" if scrubbed else ""))


async def _write_lines(job: _Job, target: BinaryIO) -> int:
    """Write JSON lines; the runtime is opened only for what the thread held before the run."""
    from corral.runtime.export.jsonl import Exported, write_jsonl

    row, scrubbed = job.row, job.options.scrub
    if scrubbed or row.base.checkpoint is None:
        what = Exported(row.id, scrubbed=scrubbed)
        return (await write_jsonl(job.records.database, what, target)).effects
    from corral.agents.exchange import export_file

    async with open_runtime() as corral:
        return (await export_file(corral, row.id, target)).effects


async def _otlp(job: _Job) -> None:
    from corral.runtime.export.otlp import OtlpTarget, send_otlp

    target = OtlpTarget.of(current().settings(), job.options.endpoint)
    if job.options.scrub:
        target = replace(target, content=False)
    count = await send_otlp(*await job.views(), target)
    note(f"sent {count} spans to {urlsplit(target.endpoint).hostname}")


async def _test(job: _Job) -> None:
    from corral.runtime.export.files import require_free, writing
    from corral.runtime.export.testfile import make_test

    test = make_test(job.row.id, job.row.agent, job.row.spec)
    folder, force = job.folder(), job.options.force
    require_free(folder / test.name, force=force)
    with writing(folder / test.fixture, force=force) as target:
        count = await _write_lines(job, target)
    with writing(folder / test.name, force=force) as target:
        target.write(test.text.encode())
    _tell(folder / test.fixture, f"{count} effects")
    _tell(folder / test.name, f"run it: pytest {folder / test.name}")


async def _eval_case(job: _Job) -> None:
    from corral.evals.from_run import Recorded, add_case

    path = job.path(CASES)
    run, effects, approvals = await job.views()
    continued = job.row.base.checkpoint is not None
    recorded = Recorded(run, effects, approvals, job.row.spec, continued)
    case = add_case(path, recorded, current().settings())
    for remark in case.remarks:
        note(remark)
    _tell(path, f"case {case.id}; run it: corral eval run {path}")


@contextmanager
def _target(path: Path, options: Options) -> Iterator[BinaryIO]:
    """Where a format of one file is written to."""
    from corral.runtime.export.files import writing

    if str(path) != STANDARD:
        with writing(path, force=options.force) as target:
            yield target
        return
    if sys.stdout.isatty():
        raise UsageError(
            "Standard output is a terminal, and this is no text for one.",
            hint="Redirect it (… > FILE), or leave -o out.",
        )
    yield sys.stdout.buffer


def _tell(path: Path, what: str) -> None:
    if str(path) != STANDARD:
        note(f"wrote {path} ({what})")


FileArgument = Annotated[
    str, typer.Argument(metavar="FILE", help="An export (--jsonl); - is standard input.")
]


def import_(file: FileArgument, json: JsonOption = False) -> None:
    """Take in a run that was exported with --jsonl: to look at it, replay it and fork it.

    It gets a thread of its own, which works in the current workspace.
    """
    found = wait(_import(file))
    if json:
        emit(found.to_json())
        return
    if not found.new:
        note(f"this run was imported before: it is {found.run}, and nothing was changed")
        return
    note(f"imported run {found.run} ({found.status}, {found.effects} effects)")
    if found.run != found.id_in_file:
        note(f"its own id, {found.id_in_file}, is that of another run here")
    if found.scrubbed:
        note("its content was taken out of the file: it can be looked at, but not replayed")
    note(f"look at it: {current().command('trace', found.run)}")


async def _import(file: str) -> Imported:
    from corral.agents.imports import import_file

    async with open_records() as records:
        return await import_file(records.database, file, current().settings().workspace)
