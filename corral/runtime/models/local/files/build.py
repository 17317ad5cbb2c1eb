"""What the installed build of llama.cpp knows: network architectures and devices.

Asks its libraries directly: importing ``llama_cpp`` takes a second, which a list of models has not.
"""

from __future__ import annotations

import ctypes
import os
import sys
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_ARCH_NAME = "_Z13llm_arch_name8llm_arch"
"""``llm_arch_name(llm_arch)`` of llama.cpp, as GCC and Clang mangle it."""

_UNKNOWN = b"unknown"
_GPU, _SHARED_GPU = 1, 2  # ggml_backend_dev_type
_LOG_FUNCTION = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


@dataclass(frozen=True)
class Gpu:
    """A device that layers can be put on; memory in bytes, ``shared`` with the machine or not."""

    name: str
    description: str
    free: int
    total: int
    shared: bool


@cache
def architectures() -> frozenset[str]:
    """The architectures that models may have; empty when this build does not tell."""
    library = _library("llama")
    function = getattr(library, _ARCH_NAME, None)
    if function is None:
        return frozenset()
    function.restype = ctypes.c_char_p
    names = set()
    for number in range(1000):
        name = function(number)
        if name == _UNKNOWN:
            break
        names.add(name.decode())
    return frozenset(names - {"(unknown)", "clip"})


def gpus() -> list[Gpu]:
    """The GPUs that this build can use, with what is free on each at this moment."""
    base, registry = _library("ggml-base"), _library("ggml")
    if base is None or registry is None:
        return []
    registry.ggml_backend_dev_count.restype = ctypes.c_size_t
    registry.ggml_backend_dev_get.restype = ctypes.c_void_p
    registry.ggml_backend_dev_get.argtypes = [ctypes.c_size_t]
    devices = map(registry.ggml_backend_dev_get, range(registry.ggml_backend_dev_count()))
    return [gpu for device in devices if (gpu := _gpu(base, device))]


def _gpu(base: ctypes.CDLL, device: int) -> Gpu | None:
    handle = ctypes.c_void_p(device)
    kind = base.ggml_backend_dev_type(handle)
    if kind not in {_GPU, _SHARED_GPU}:
        return None
    for function in (base.ggml_backend_dev_name, base.ggml_backend_dev_description):
        function.restype = ctypes.c_char_p
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    base.ggml_backend_dev_memory(handle, ctypes.byref(free), ctypes.byref(total))
    name, description = (
        bytes(text or b"").decode("utf-8", "replace")
        for text in (
            base.ggml_backend_dev_name(handle),
            base.ggml_backend_dev_description(handle),
        )
    )
    return Gpu(name, description, free.value, total.value, kind == _SHARED_GPU)


@cache
def _library(name: str) -> ctypes.CDLL | None:
    """One of the libraries that llama-cpp-python brings; ``None`` when it is not there."""
    spec = find_spec("llama_cpp")
    file = {"darwin": f"lib{name}.dylib", "win32": f"{name}.dll"}.get(sys.platform, f"lib{name}.so")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder) / "lib" / file
        if path.is_file():
            os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # why: see ``LocalModel``
            return _quiet(ctypes.CDLL(str(path)))
    return None


def _quiet(library: ctypes.CDLL) -> ctypes.CDLL:
    """Keep what drivers have to say from the terminal, until ``native`` collects it."""
    if "llama_cpp" not in sys.modules and hasattr(library, "ggml_log_set"):
        library.ggml_log_set(_SILENT, None)
    return library


def _say_nothing(_level: int, _text: bytes, _data: int) -> None:
    """A log that nobody reads."""


_SILENT = _LOG_FUNCTION(_say_nothing)
