"""The entry point ``corral``: the commands by name, and what becomes of every error.

Only typer and the standard library are imported here; each command imports what it needs when
it runs, so that ``--help`` and the commands that only read stay quick.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, TextIO

import typer

from corral.cli import (
    approvals,
    budget,
    doctor,
    evals,
    export,
    fork,
    inspection,
    memory,
    packages,
    replay,
    rewind,
    run,
    storage,
)
from corral.cli.agents import command as agents
from corral.cli.chat import command as chat
from corral.cli.context import Globals, debugging, set_current
from corral.cli.diff import command as diff
from corral.cli.mcp import command as mcp
from corral.cli.models import command as models
from corral.cli.output import report
from corral.cli.policy import command as policy
from corral.cli.trace import command as trace
from corral.errors import CorralError

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the signal's number."""

EPILOG = (
    "Exit codes: 0 completed, 1 failed, 2 wrong usage, 3 paused for approval, "
    "4 stopped by a limit, 5 replay diverged or runs differ, 130 interrupted."
)

app = typer.Typer(
    name="corral",
    help="A local-first runtime for LLM agents: durable, sandboxed, approved and replayable.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        sys.stdout.write(f"corral {version('corral')}\n")
        raise typer.Exit


@app.callback()
def options(
    home: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where state lives (else CORRAL_HOME).")
    ] = None,
    workspace: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder that agents may work in.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read this instead of ./corral.toml.")
    ] = None,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Keep the options that all commands share."""
    set_current(Globals(home, workspace, config))


app.command("chat")(chat.chat)
app.command("run")(run.run)
app.command("resume")(run.resume)
app.command("runs")(inspection.runs)
app.command("threads")(inspection.threads)
app.command("trace")(trace.trace)
app.command("replay")(replay.replay)
app.command("fork")(fork.fork)
app.command("diff")(diff.diff)
app.command("export")(export.export)
app.command("import")(export.import_)
app.command("cancel")(inspection.cancel)
app.command("rewind")(rewind.rewind)
app.add_typer(agents.app, name="agents")
app.add_typer(approvals.app, name="approvals")
app.command("approve")(approvals.approve)
app.command("deny")(approvals.deny)
app.command("give")(approvals.give)
app.command("stop")(approvals.stop)
app.command("budget")(budget.budget)
app.command("gc")(storage.gc)
app.command("delete")(storage.delete)
app.command("pin")(storage.pin)
app.command("unpin")(storage.unpin)
app.add_typer(policy.app, name="policy")
app.add_typer(memory.app, name="memory")
app.add_typer(mcp.app, name="mcp")
app.add_typer(models.app, name="models")
app.add_typer(packages.app, name="packages")
app.add_typer(evals.app, name="eval")
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run the command line on ``sys.argv`` and exit with its code."""
    sys.exit(invoke(sys.argv[1:]))


def invoke(args: Sequence[str]) -> int:
    """Run one command and return its exit code; errors are printed, never raised."""
    _prepare_streams()
    try:
        code = typer.main.get_command(app).main(
            args=list(args) or ["--help"], prog_name="corral", standalone_mode=False
        )
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # the border of all commands
        return told(error, args)
    return code if isinstance(code, int) else 0


def told(error: BaseException, args: Sequence[str]) -> int:
    """Print what a command has raised; its exit code. What only ends the process goes on."""
    match error:
        case CorralError():
            _trace(error)
            report(error.message, error.hint)
            return error.exit_code
        case typer.TyperException():
            said = error.format_message().replace(": Value error, ", ": ")
            report(said or "no command given", _usage_hint(args))
            return error.exit_code
        case KeyboardInterrupt() | typer.Abort():
            report("interrupted")
            return INTERRUPTED
        case BrokenPipeError():
            _close_quietly(sys.stdout)
            return 1
        case Exception():
            _trace(error)
            report(
                f"unexpected {type(error).__name__}: {error}",
                "This is a fault in Corral. Run it again with CORRAL_DEBUG=1 to see where.",
            )
            return 1
        case _:
            raise error


def _usage_hint(args: Sequence[str]) -> str:
    """The help of the command that was meant, as far as the words name one."""
    found: object = typer.main.get_command(app)
    named = ["corral"]
    for word in (word for word in args if not word.startswith("-")):
        found = getattr(found, "commands", {}).get(word)
        if found is None:
            break
        named.append(word)
    return f"See: {' '.join(named)} --help"


def _trace(error: Exception) -> None:
    """Show where ``error`` comes from, when someone debugs."""
    if debugging():
        import traceback

        traceback.print_exception(error)


def _prepare_streams() -> None:
    """What cannot be encoded is written out; libraries' warnings stay off the terminal."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if not debugging():
        warnings.simplefilter("ignore")


def _close_quietly(stream: TextIO) -> None:
    """Send what is still buffered nowhere: the reader of the pipe has gone."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
