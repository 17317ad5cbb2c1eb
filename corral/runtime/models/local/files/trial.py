"""Tries a model file in a process of its own before it is loaded into this one.

llama.cpp aborts on some of what a damaged or hostile header says, which would take every run of
this process with it. A file that passed is not tried again until it changes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from corral.errors import ModelError
from corral.runtime.models.local.files.gguf import GgufInfo
from corral.runtime.models.local.files.index import FileIndex

_CHILD = Path(__file__).with_name("trial_child.py")
_SECONDS = 120.0
"""No header takes longer, on any machine."""


def try_loading(info: GgufInfo, index: FileIndex | None = None) -> None:
    """Raises ``ModelError`` for a file that llama.cpp cannot load, or that ends its process.

    Takes about half a second for a new file, and nothing for one that ``index`` knows.
    """
    index = index or FileIndex()
    if index.passed(info.path):
        return
    environ = {**os.environ, "GGML_NO_BACKTRACE": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-I", str(_CHILD), str(info.path)],
            capture_output=True,
            timeout=_SECONDS,
            check=False,
            env=environ,
        )
    except subprocess.TimeoutExpired:
        raise _refused(info, f"loading its header took over {_SECONDS:.0f} seconds") from None
    if done.returncode < 0 or done.returncode not in {0, 1}:
        raise _refused(info, f"llama.cpp broke down ({_last_line(done.stderr)})")
    if done.returncode == 1:
        raise _refused(info, f"llama.cpp says: {_said(done.stdout)}")
    index.pass_(info.path)


def _refused(info: GgufInfo, why: str) -> ModelError:
    return ModelError(
        f"llama.cpp cannot load {info.path} (architecture {info.architecture[:60]!r}): {why}.",
        hint="Download the file again, use a newer llama-cpp-python, or another GGUF text model.",
    )


def _said(output: bytes) -> str:
    try:
        lines = json.loads(output)
    except ValueError:
        return _last_line(output)
    return "; ".join(map(str, lines)).rstrip(".")[:500] or "no reason given"


def _last_line(output: bytes) -> str:
    lines = [line.strip() for line in output.decode("utf-8", "replace").splitlines()]
    return next((line for line in reversed(lines) if line), "no reason given")[:300]
