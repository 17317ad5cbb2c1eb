"""Preloaded by the fork server: one run, so that what is imported or built late is there."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from tests.runtime.crash_child import carry_on, nothing_yet

with tempfile.TemporaryDirectory() as folder:
    asyncio.run(carry_on("nested", asyncio.run(nothing_yet(Path(folder) / "warm"))))
