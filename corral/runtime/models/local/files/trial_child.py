"""Runs alone, in a process of its own: loads a GGUF file's header with llama.cpp, and no weights.

``python trial_child.py FILE`` prints a JSON list of what llama.cpp had to say and exits 0 when the
model can be loaded, 1 when not. On a damaged file llama.cpp may end the process instead.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import sys
import types
from typing import Any

_ERROR = 4
_SMALL = 256
_said: list[str] = []


def main(path: str) -> int:
    """The exit status for one file."""
    c = _bindings()

    def keep(level: int, text: bytes, _data: ctypes.c_void_p) -> None:
        if level == _ERROR:
            _said.append(text.decode("utf-8", "replace").strip())

    log = c.llama_log_callback(keep)
    c.llama_log_set(log, ctypes.c_void_p(0))
    c.llama_backend_init()
    settings = c.llama_model_default_params()
    settings.no_alloc = True
    settings.n_gpu_layers = 0
    settings.use_extra_bufts = False
    settings.load_mode = c.LLAMA_LOAD_MODE_NONE
    model = c.llama_model_load_from_file(path.encode(), settings)
    loaded = bool(model) and bool(c.llama_init_from_model(model, _context(c)))
    sys.stdout.write(json.dumps(_said[-5:]))
    return 0 if loaded else 1


def _context(c: Any) -> Any:
    settings = c.llama_context_default_params()
    settings.n_ctx = settings.n_batch = settings.n_ubatch = _SMALL
    return settings


def _bindings() -> Any:
    """The C functions alone: the package around them imports much that is not needed."""
    spec = importlib.util.find_spec("llama_cpp")
    assert spec is not None, "llama-cpp-python is not installed"
    package = types.ModuleType("llama_cpp")
    package.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["llama_cpp"] = package
    return importlib.import_module("llama_cpp.llama_cpp")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
