"""Amounts of memory, as they are written for a person."""

from __future__ import annotations


def shown_bytes(count: float) -> str:
    """``count`` bytes in MiB or GiB, such as ``87 MiB`` or ``4.7 GiB``."""
    mebibytes = count / 1024**2
    if mebibytes < 1000:
        return f"{mebibytes:,.0f} MiB" if mebibytes >= 10 else f"{mebibytes:,.1f} MiB"
    return f"{mebibytes / 1024:,.1f} GiB"
