"""The interpreter of a session: runs pieces of code, keeps what they define.

It lives in a process of its own that the code may break at any time; the keeper (``keeper.py``)
starts it, talks to it over two pipes, one JSON line a message, and ends it. What the code prints
goes where every process prints.
"""

from __future__ import annotations

import _ast  # ast itself would take half a megabyte of every session
import builtins
import importlib
import json
import linecache
import os
import signal
import sys
import traceback
import types
import warnings
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TextIO

from corral.sandbox.guest.displays import Display, displays_of, figures
from corral.sandbox.guest.environment import copy_fonts

_MAX_VALUE = 32_768
_HALF_TRACE = 16_384
_MAX_DISPLAYS = 6 * 1024 * 1024
_KEPT_SOURCES = 1000
_NO_PLOT_WINDOW = "FigureCanvasAgg is non-interactive"
_RUN = "<run "


def serve(requests: int, replies: int) -> None:
    """Run what comes over the pipe ``requests`` until it ends.

    The calling process is a fork that has descriptors 0 to 2 and these two, and no others.
    """
    kernel = Kernel()
    own = os.getpid()
    with os.fdopen(requests, "rb") as lines:
        for line in lines:
            request = json.loads(line)
            kernel.use_packages(request["packages"])
            reply = kernel.run(request["code"])
            if os.getpid() != own:
                return  # a fork that the code made and let run on
            data = json.dumps(reply).encode() + b"\n"
            while data:
                data = data[os.write(replies, data) :]


class Kernel:
    """One interpreter's state: the variables of ``__main__`` and the event loop of its awaits."""

    def __init__(self) -> None:
        module = types.ModuleType("__main__")
        module.__dict__["__builtins__"] = builtins
        sys.modules["__main__"] = module
        sys.argv = [""]
        sys.path.insert(0, "")
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  # the process's own
        sys.stdout, sys.stderr = _stream(1), _stream(2)
        builtins.input = _no_input
        builtins.display = self._display  # type: ignore[attr-defined]  # as notebooks have it
        warnings.filterwarnings("ignore", message=_NO_PLOT_WINDOW)
        signal.signal(signal.SIGINT, self._interrupted)
        self._variables: dict[str, Any] = module.__dict__
        self._displays: list[Display] = []
        self._loop: Any = None
        self._number = 0
        self._packages = ""
        self._running = False

    def run(self, code: str) -> dict[str, Any]:
        """Run one piece of code: its last value, displays and traceback, as JSON has them."""
        self._number += 1
        name = f"{_RUN}{self._number}>"
        linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
        linecache.cache.pop(f"{_RUN}{self._number - _KEPT_SOURCES}>", None)
        self._displays = []
        value = error = None
        try:
            value = self._interruptible(code, name)
        except SystemExit as left:
            error = _exit_text(left)
        except BaseException as raised:  # noqa: BLE001  # whatever the code raises is its result
            error = _trace(raised)
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # the code closed or replaced it
                stream.flush()
        return {"value": value, "displays": _bounded(self._displays), "error": error}

    def use_packages(self, folders: str) -> None:
        """Import from these folders (with colons between), and no more from those before."""
        if folders == self._packages:
            return
        before = self._packages.split(":")
        wanted = [folder for folder in folders.split(":") if folder]
        sys.path[:] = [entry for entry in sys.path if entry not in before or not entry]
        sys.path[1:1] = wanted
        self._packages = folders
        importlib.invalidate_caches()
        for folder in wanted:
            copy_fonts(folder)

    def _interruptible(self, code: str, name: str) -> str | None:
        """Execute; only in here a SIGINT is an exception."""
        self._running = True
        try:
            value = self._shown(self._execute(code, name))
            self._displays += figures()
        finally:
            self._running = False
        return value

    def _interrupted(self, number: int, frame: types.FrameType | None) -> None:
        del number, frame
        if self._running:
            raise KeyboardInterrupt

    def _execute(self, code: str, name: str) -> object:
        parsed: Any = compile(code, name, "exec", flags=_ast.PyCF_ONLY_AST)
        last = parsed.body[-1] if parsed.body else None
        if not isinstance(last, _ast.Expr):
            self._evaluate(parsed, name, "exec")
            return None
        if len(parsed.body) > 1:
            self._evaluate(_ast.Module(parsed.body[:-1], parsed.type_ignores), name, "exec")
        return self._evaluate(_ast.Expression(last.value), name, "eval")

    def _evaluate(self, parsed: _ast.Module | _ast.Expression, name: str, mode: str) -> object:
        code = compile(parsed, name, mode, flags=_ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        value = eval(code, self._variables)  # noqa: S307  # the purpose of a session
        return self._awaited(value) if code.co_flags & 0x80 else value  # CO_COROUTINE

    def _awaited(self, work: Coroutine[Any, Any, object]) -> object:
        import asyncio  # only code that awaits pays for it

        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self._loop)
        task = self._loop.create_task(work)
        try:
            return self._loop.run_until_complete(task)
        except KeyboardInterrupt:
            task.cancel()
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(task)
            raise

    def _shown(self, value: object) -> str | None:
        """The text of the last expression's value, which is also kept as ``_``."""
        if value is None:
            return None
        self._variables["_"] = value
        self._displays += displays_of(value)
        text = repr(value)
        if len(text) <= _MAX_VALUE:
            return text
        return f"{text[:_MAX_VALUE]}[{len(text) - _MAX_VALUE} characters left out]"

    def _display(self, *values: object) -> None:
        """``display`` of the code: rich where a value can be, else printed."""
        for value in values:
            found = displays_of(value)
            self._displays += found
            if not found:
                print(repr(value))  # noqa: T201  # output of the code


def _stream(number: int) -> TextIO:
    return open(  # the process's own, open as long as it lives
        number, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )


def _no_input(prompt: object = "") -> str:
    del prompt
    raise EOFError("input() has nobody to ask here; put the value into the code")


def _exit_text(left: SystemExit) -> str:
    status = "" if left.code is None else f" with {left.code!r}"
    return f"SystemExit: the code called exit{status}; the session goes on."


def _bounded(displays: list[Display]) -> list[Display]:
    kept, room = [], _MAX_DISPLAYS
    for mime, data in displays:
        if len(data) > room:
            kept.append(("text/markdown", "[more displays are left out: they are too large]"))
            break
        kept.append((mime, data))
        room -= len(data)
    return kept


def _trace(raised: BaseException) -> str:
    """The traceback as the code's author expects it, without our own frames."""
    try:
        report = traceback.TracebackException.from_exception(raised)
        _strip(report, set())
        text = "".join(report.format())
    except Exception:  # noqa: BLE001  # even formatting runs the code's own methods
        return f"{type(raised).__name__} (which cannot be shown)"
    excess = len(text) - 2 * _HALF_TRACE
    if excess <= 0:
        return text
    return f"{text[:_HALF_TRACE]}\n[... {excess} characters left out ...]\n{text[-_HALF_TRACE:]}"


def _strip(report: traceback.TracebackException, seen: set[int]) -> None:
    """Begin each stack where the code's own frames begin, and leave ours out of the rest."""
    if id(report) in seen:
        return
    seen.add(id(report))
    stack = list(report.stack)
    own = [place for place, frame in enumerate(stack) if frame.filename.startswith(_RUN)]
    if any(frame.filename == __file__ for frame in stack):
        stack = stack[own[0] :] if own else []
    kept = [frame for frame in stack if frame.filename != __file__]
    report.stack = traceback.StackSummary.from_list(kept)
    others = (report.__cause__, report.__context__, *(report.exceptions or ()))
    for other in others:
        if other is not None:
            _strip(other, seen)
