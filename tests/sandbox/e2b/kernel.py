"""A small kernel, as the stand-in's code interpreter runs one for each context.

Code comes as JSON lines on standard input, one at a time; what it does goes out as the lines that
the service streams. SIGINT interrupts, as in a notebook.
"""

from __future__ import annotations

import ast
import builtins
import io
import json
import os
import signal
import sys
import time
import traceback
from typing import Any

OUT = os.fdopen(os.dup(1), "w", encoding="utf-8", errors="backslashreplace")
FORMS = {"html": "_repr_html_", "png": "_repr_png_", "markdown": "_repr_markdown_"}


def emit(kind: str, **data: object) -> None:
    OUT.write(json.dumps({"type": kind, **data}) + "\n")
    OUT.flush()


class Stream(io.TextIOBase):
    def __init__(self, kind: str) -> None:
        self.kind = kind

    def write(self, text: str) -> int:
        emit(self.kind, text=text, timestamp=time.time_ns())
        return len(text)


def show(value: object, main: bool = False) -> None:
    forms = {name: getattr(value, of)() for name, of in FORMS.items() if hasattr(value, of)}
    emit("result", text=repr(value), is_main_result=main, **forms)


def run(code: str, names: dict[str, Any]) -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        tree = ast.parse(code, "<cell>")
        last = tree.body[-1] if tree.body else None
        if isinstance(last, ast.Expr):
            tree.body.pop()
        exec(compile(tree, "<cell>", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)
            if value is not None:
                show(value, main=True)
    except BaseException as error:  # noqa: BLE001  the border to the code
        shown = error.__traceback__ and error.__traceback__.tb_next  # without this frame
        told = "".join(traceback.format_exception(type(error), error, shown))
        emit(
            "error", name=type(error).__name__, value=str(error), traceback=f"\x1b[31m{told}\x1b[0m"
        )
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


signal.signal(signal.SIGINT, signal.SIG_IGN)
sys.stdout, sys.stderr = Stream("stdout"), Stream("stderr")
vars(builtins)["display"] = show
NAMES: dict[str, Any] = {"__name__": "__main__"}
for count, line in enumerate(sys.stdin, 1):
    emit("number_of_executions", execution_count=count)
    run(json.loads(line), NAMES)
    emit("end_of_execution")
