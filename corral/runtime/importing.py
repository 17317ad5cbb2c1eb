"""Importing much at once. Standard library only."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collecting() -> Iterator[None]:
    """For imports in the body: nothing that they make is garbage, and looking for some takes a
    fifth of the time. Nor is anything that there is by then ever looked at again: for a process
    that begins.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
