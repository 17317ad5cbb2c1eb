"""A function's docstring as a description and one for each parameter."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_SECTION = re.compile(
    r"(Args|Arguments|Parameters|Params|Returns?|Yields?|Raises|Examples?|Notes?):\s*"
)
_PARAMETERS = ("Args", "Arguments", "Parameters", "Params")
_ENTRY = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?:\s*(.*)")
_FIELD = re.compile(r":(param|type|returns?|rtype|raises)\b[^:]*?(\w*):\s*(.*)")


@dataclass(frozen=True)
class Docstring:
    """``summary`` is all that comes before the first section."""

    summary: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_docstring(text: str) -> Docstring:
    """Read Google style (``Args:``) and reStructuredText (``:param x:``); ``text`` is dedented."""
    summary: list[str] = []
    parameters: dict[str, str] = {}
    section = ""
    current = ""
    for line in text.splitlines():
        if match := _SECTION.fullmatch(line.strip()) if not line.startswith(" ") else None:
            section, current = match.group(1), ""
        elif match := _FIELD.fullmatch(line.strip()):
            section, current = "field", match.group(2) if match.group(1) == "param" else ""
            if current:
                parameters[current] = match.group(3)
        elif not section:
            summary.append(line)
        elif section in _PARAMETERS and _is_entry(line) and (match := _ENTRY.match(line.strip())):
            current = match.group(1)
            parameters[current] = match.group(2)
        elif current and line.strip():
            parameters[current] = f"{parameters[current]} {line.strip()}".strip()
    return Docstring("\n".join(summary).strip(), parameters)


def _is_entry(line: str) -> bool:
    """Entries of a section are indented by one level; what is deeper goes on with the last."""
    return len(line) - len(line.lstrip()) in (2, 4)
