"""What the tools of the server ``python`` take and answer, wherever the code runs (JSON Schema)."""

from __future__ import annotations

from typing import Any

MAIN_SESSION = "main"
DEFAULT_TIMEOUT, MAX_TIMEOUT = 30, 600
"""Seconds for one piece of code."""

SESSION: dict[str, Any] = {
    "type": "string",
    "default": MAIN_SESSION,
    "description": "The session's name; each keeps variables of its own.",
}
RUN_CODE: dict[str, Any] = {
    "code": {"type": "string", "description": "The code to run."},
    "timeout": {
        "type": "number",
        "minimum": 0.1,
        "maximum": MAX_TIMEOUT,
        "default": DEFAULT_TIMEOUT,
        "description": "Seconds after which it is interrupted.",
    },
    "session": SESSION,
    "fresh": {
        "type": "boolean",
        "default": False,
        "description": "true: run in a new interpreter of its own; nothing is kept.",
    },
}
"""The arguments of ``run_code`` by name; ``code`` is required."""
OUTCOME: dict[str, Any] = {
    "type": "object",
    "properties": {
        "status": {"enum": ["ok", "error", "timeout", "crashed", "cancelled"]},
        "stdout": {"type": "string"},
        "stderr": {"type": "string"},
        "value": {"type": ["string", "null"]},
        "error": {"type": ["string", "null"]},
        "dropped_bytes": {"type": "integer"},
        "images": {"type": "integer"},
        "files": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["status", "stdout", "stderr", "value", "error", "dropped_bytes"],
}
"""What ``run_code`` answers."""

SESSIONS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "sessions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "session": {"type": "string"},
                    "runs": {"type": "integer"},
                    "busy": {"type": "boolean"},
                },
                "required": ["session", "runs", "busy"],
            },
        }
    },
    "required": ["sessions"],
}
"""What ``list_sessions`` answers."""
