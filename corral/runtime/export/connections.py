"""A connection of a tool call in words, for whoever looks at a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def connection_in_words(request: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """How it went: why it was refused, or the status, the bytes each way and to which address."""
    if request.get("allowed") is False:
        return str(request.get("refused", "refused"))
    parts = [f"status {result['status']}" if result.get("status") is not None else ""]
    if "sent" in result:
        parts.append(f"{result['sent']} B sent, {result.get('received')} B received")
    parts += [f"to {result['address']}" if result.get("address") else ""]
    parts += ["shared by several calls" if request.get("shared") else ""]
    parts += ["opened by an earlier call" if request.get("reused") else ""]
    parts += ["still open" if result.get("open") else "", str(result.get("error", ""))]
    return "; ".join(part for part in parts if part)
