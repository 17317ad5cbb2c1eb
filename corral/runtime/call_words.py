"""A tool call as one line of text. It is a model's, and not cleaned."""

from __future__ import annotations

import json

from corral.jsontypes import JsonObject


def arguments_in_words(args: JsonObject) -> str:
    """Arguments as they would be written in a call: ``path="a.txt", lines=3``."""
    return ", ".join(
        f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in args.items()
    )


def call_in_words(name: str, args: JsonObject) -> str:
    """A call: ``files__read_file(path="a.txt")``."""
    return f"{name}({arguments_in_words(args)})"
