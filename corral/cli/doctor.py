"""Checks what Corral needs, and says how to fix what is missing."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from corral.cli.context import current, open_records, wait
from corral.cli.output import clean, console, emit, fitted
from corral.cli.render import status
from corral.errors import CorralError

if TYPE_CHECKING:
    from corral.jsontypes import JsonObject
    from corral.runtime.config import Settings
    from corral.runtime.models.contract import ChatModel

Verdict = Literal["ok", "none", "warn", "fail"]
"""``none`` is for what is not here and not needed."""

KEYS = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
"""The environment variable that holds each hosted provider's key."""

LOW_SPACE = 512 * 1024 * 1024
"""Free bytes under which the disk is called nearly full."""


@dataclass(frozen=True)
class Check:
    """One thing that was checked: how it stands and, if need be, how to fix it."""

    name: str
    status: Verdict
    detail: str
    fix: str = ""

    def to_json(self) -> JsonObject:
        """All fields."""
        return asdict(self)


def doctor(
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    sandboxes: Annotated[
        bool, typer.Option("--sandboxes", help="Start every sandbox of this machine.")
    ] = False,
) -> int:
    """Check configuration, model, sandbox, database and keys. Exits 1 when one of them fails."""
    checks = list(examine(sandboxes=sandboxes))
    if json:
        for check in checks:
            emit(check.to_json())
    else:
        show_checks(checks)
    return 1 if any(check.status == "fail" for check in checks) else 0


def show_checks(checks: list[Check]) -> None:
    """Print checks, each with its fix."""
    from rich.text import Text

    out = console()
    for check in checks:
        line = Text.assemble(f"{check.name:<9} ", status(check.status))
        line.append(" " * (5 - len(check.status)))
        line.append(fitted(clean(check.detail), sys.stdout, len(line)))
        out.print(line, soft_wrap=True)
        for row in check.fix.splitlines():
            out.print(
                f"          → {fitted(clean(row), sys.stdout, 12)}", style="dim", soft_wrap=True
            )


def examine(*, sandboxes: bool = False) -> Iterator[Check]:
    """All checks, in the order in which one would fix them.

    With ``sandboxes`` those that are not configured are started, too.
    """
    try:
        settings = current().settings()
    except CorralError as error:
        yield Check("config", "fail", error.message, error.hint)
        return
    checks: tuple[tuple[str, Callable[[Settings], Iterator[Check]]], ...] = (
        ("config", _config),
        ("workspace", _workspace),
        ("model", _model),
        ("sandbox", _sandbox),
        ("sandbox", _others_started if sandboxes else _others),
        ("servers", _servers),
        ("database", _database),
        ("keys", _keys),
    )
    for name, check in checks:
        try:
            yield from check(settings)
        except CorralError as error:
            yield Check(name, "fail", error.message, error.hint)
        except (OSError, ImportError, RuntimeError) as error:
            yield Check(name, "fail", f"{type(error).__name__}: {error}")


def _config(settings: Settings) -> Iterator[Check]:
    from corral.runtime.config import user_file

    file = user_file()
    own = f"your own file {file}" + ("" if file.is_file() else " (not there)")
    yield Check("config", "ok", f"home {settings.home}, {own}")


def _workspace(settings: Settings) -> Iterator[Check]:
    folder = settings.workspace
    if not folder.is_dir():
        yield Check("workspace", "fail", f"{folder} is not a folder", "Choose one: --workspace DIR")
    elif not os.access(folder, os.W_OK):
        yield Check(
            "workspace", "warn", f"{folder} cannot be written", "Agents can only read here."
        )
    else:
        yield Check("workspace", "ok", str(folder))


def _model(settings: Settings) -> Iterator[Check]:
    from corral.runtime.models.combined.opening import open_combined
    from corral.runtime.models.registry import ModelOptions, open_model

    def opened(ref: str) -> ChatModel:
        alone = ModelOptions(base_url=settings.base_url, local=settings.local)
        return open_combined(ref, settings.models, opened) or open_model(ref, alone)

    opened(settings.model)  # checks the file, the script or the key
    if settings.model.startswith("local") or settings.model.endswith(".gguf"):
        import llama_cpp

        yield Check("model", "ok", f"{settings.model}, llama-cpp-python {llama_cpp.__version__}")
    else:
        yield Check("model", "ok", settings.model)


def _sandbox(settings: Settings) -> Iterator[Check]:
    from corral.cli.sandboxes import chosen

    if settings.sandbox == "none":
        yield Check(
            "sandbox",
            "warn",
            "switched off: tools and the code that they run can do what you can do",
            'Set sandbox = "bubblewrap" in corral.toml.',
        )
    else:
        found = chosen(settings.sandbox, settings.sandbox_require)
        yield Check("sandbox", "ok" if found.ok else "fail", found.detail, found.fix)


def _others(settings: Settings, *, start: bool = False) -> Iterator[Check]:
    """The sandboxes that are not configured. None of them is needed, so none of them fails."""
    from corral.cli.sandboxes import others

    for found in others(settings.sandbox, start=start):
        yield Check("also", "ok" if found.ok else "none", found.detail, found.fix)


def _others_started(settings: Settings) -> Iterator[Check]:
    return _others(settings, start=True)


def _servers(settings: Settings) -> Iterator[Check]:
    """Whether our own servers can be started with their settings; none is."""
    from corral.tools.builtin import builtin_server

    held = True
    for name in settings.servers:
        try:
            builtin_server(name, settings.workspace, settings.builtin)
        except CorralError as error:
            held = False
            yield Check("servers", "fail", f"{name}: {error.message}", error.hint)
    for entry, database in settings.sql.items() if "sql" in settings.servers else ():
        file = database.path and settings.workspace / database.path.expanduser()
        if file and not file.is_file():
            held = False
            fix = "Correct the path, or make the database."
            yield Check("servers", "warn", f"sql: there is no file {file} of [sql.{entry}]", fix)
    if held:
        started = "corral mcp list starts them and lists their tools"
        yield Check("servers", "ok", f"{', '.join(settings.servers)}; {started}")


def _database(settings: Settings) -> Iterator[Check]:
    from corral.runtime.models.local.states.removal import states_folder, taken

    shown = wait(_write_nothing(settings))
    yield Check("database", "ok", shown)
    free = shutil.disk_usage(_existing(settings.home)).free
    saved = taken(states_folder(settings.home)).size
    megabytes = f"{free // 1024**2} MiB free for {settings.home}"
    megabytes += f", {saved // 1024**2} MiB in saved conversations" if saved else ""
    if free < LOW_SPACE:
        yield Check("disk", "warn", megabytes, "Free some space, or set --home to another disk.")
    else:
        yield Check("disk", "ok", megabytes)


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


async def _write_nothing(settings: Settings) -> str:
    """Open the database, with its migrations, and take the write lock once."""
    from sqlalchemy import make_url

    async with open_records() as records:
        await records.database.write(lambda _connection: None)
    return make_url(settings.database).render_as_string(hide_password=True)


def _keys(settings: Settings) -> Iterator[Check]:
    for provider, variable in KEYS.items():
        if os.environ.get(variable):
            yield Check("keys", "ok", f"{variable} is set")
        elif settings.model.startswith(f"{provider}:"):
            fix = f"Set {variable} in the environment."
            yield Check("keys", "fail", f"{variable} is not set; {settings.model} needs it", fix)
        else:
            yield Check("keys", "ok", f"{variable} is not set; only {provider}: models need it")
