"""The interpreter behind ``run_code``: runs pieces of code, keeps what they define.

Talks over two inherited pipes, one JSON line a message: ``{"code": …}`` comes in, and
``{"value": …, "error": …}`` goes out after it. What the code prints goes where every process
prints.
"""

from __future__ import annotations

import ast
import json
import linecache
import os
import sys
import traceback
import types
from typing import Any

_MAX_VALUE = 32_768
_SELF = __file__


def main(argv: list[str]) -> int:
    """Serve the pipes whose descriptors are the two arguments, until the first one ends."""
    requests = os.fdopen(int(argv[0]), "rb")
    replies = int(argv[1])
    for fd in (requests.fileno(), replies):
        os.set_inheritable(fd, False)
    module = types.ModuleType("__main__")
    module.__dict__["__builtins__"] = __builtins__
    sys.modules["__main__"] = module
    sys.argv = [""]
    sys.path.insert(0, "")
    for number, line in enumerate(requests, 1):
        reply = run(json.loads(line)["code"], module.__dict__, f"<run {number}>")
        data = json.dumps(reply).encode() + b"\n"
        while data:
            data = data[os.write(replies, data) :]
    return 0


def run(code: str, variables: dict[str, Any], name: str) -> dict[str, str | None]:
    """Run one piece of code; its last expression's value and its traceback, as text."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    value = error = None
    try:
        value = _execute(code, variables, name)
    except SystemExit as left:
        code_text = "" if left.code is None else f" with {left.code!r}"
        error = f"SystemExit: the code called exit{code_text}; the session goes on."
    except BaseException as raised:  # noqa: BLE001 -- whatever the code raises is its result
        error = _trace(raised)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            continue  # the code closed or replaced it
    return {"value": value, "error": error}


def _execute(code: str, variables: dict[str, Any], name: str) -> str | None:
    parsed = ast.parse(code, name)
    last = parsed.body[-1] if parsed.body else None
    if not isinstance(last, ast.Expr):
        exec(compile(parsed, name, "exec"), variables)  # noqa: S102 -- the tool's purpose
        return None
    body = ast.Module(parsed.body[:-1], parsed.type_ignores)
    exec(compile(body, name, "exec"), variables)  # noqa: S102 -- the tool's purpose
    value = eval(compile(ast.Expression(last.value), name, "eval"), variables)  # noqa: S307 -- the tool's purpose
    if value is None:
        return None
    variables["_"] = value
    text = repr(value)
    if len(text) <= _MAX_VALUE:
        return text
    return f"{text[:_MAX_VALUE]}[{len(text) - _MAX_VALUE} characters left out]"


def _trace(raised: BaseException) -> str:
    """The traceback as the code's author expects it, without this file's frames."""
    try:
        report = traceback.TracebackException.from_exception(raised)
        _strip(report)
        return "".join(report.format())
    except Exception:  # noqa: BLE001 -- even formatting runs the code's own methods
        return f"{type(raised).__name__} (which cannot be shown)"


def _strip(report: traceback.TracebackException) -> None:
    frames = [frame for frame in report.stack if frame.filename != _SELF]
    # A syntax error is raised while parsing, below our frames and not in the code's.
    frames = [frame for frame in frames if not frame.filename.endswith("/ast.py")]
    report.stack = traceback.StackSummary.from_list(frames)
    for other in (report.__cause__, report.__context__):
        if other is not None:
            _strip(other)
