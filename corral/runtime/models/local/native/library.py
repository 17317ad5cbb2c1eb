"""The library itself: the only module that imports ``llama_cpp``, which takes a second.

Its errors go to our messages instead of to stderr.
"""

from __future__ import annotations

import ctypes
from typing import Any

import llama_cpp

C: Any = llama_cpp
"""llama.cpp's C functions: their ctypes declarations do not agree with what they take."""

_ERROR = 4
_errors: list[str] = []


@C.llama_log_callback  # type: ignore[untyped-decorator]  # a ctypes function type
def _keep(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level == _ERROR:
        _errors.append(text.decode("utf-8", "replace").strip())
        del _errors[:-5]


def forget_errors() -> None:
    """What llama.cpp says from now on is about what comes next."""
    _errors.clear()


def reasons() -> str:
    """The last errors that llama.cpp logged."""
    return "; ".join(_errors) or "no reason given"


C.llama_log_set(_keep, ctypes.c_void_p(0))
C.llama_backend_init()


def build() -> str:
    """Which llama.cpp this is: another one may write its states in another way."""
    return f"{llama_cpp.__version__} {C.llama_version().decode()}"
