"""Agents of other products in Corral's words: what cannot be said is left out, and told."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from corral.agents.files import vocabulary
from corral.agents.files.front_matter import NotFrontMatterError, parse, split
from corral.agents.files.markdown import KEYS, is_text
from corral.cli.agents.writing import front_matter
from corral.jsontypes import Json, JsonObject

_KEY = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,63}):(?:\s+(.*))?")
_SAMPLING = ("temperature", "top_p", "top_k", "max_tokens", "seed")
_EFFORTS = ("none", "low", "medium", "high")


@dataclass(frozen=True)
class Imported:
    """An agent's file in Corral's words, and what became of what it has no words for."""

    name: str
    text: str
    notes: tuple[str, ...]


def imported(text: str, name: str, stem: str) -> Imported:
    """Rewrite a Markdown agent as ``name``; else it is called as it says, or as its file."""
    reading = _Reading()
    stated, body = reading.parts(text)
    own_name = stated.pop("name", None)
    data: JsonObject = {"name": name or str(own_name or stem)}
    for key, value in stated.items():
        data |= reading.translated(key, value)
    data |= reading.servers(data)
    return Imported(data["name"], f"{front_matter(data)}{body}\n", tuple(reading.notes))


@dataclass
class _Reading:
    """One file on its way; ``notes`` are for the person."""

    notes: list[str] = field(default_factory=list)

    def parts(self, text: str) -> tuple[JsonObject, str]:
        """What the front matter says, however it is written, and the instructions."""
        try:
            parts = split(text)
        except NotFrontMatterError:
            self.notes.append("It has no front matter: all of it became the instructions.")
            return {}, text.strip()
        try:
            return parse(parts.front, is_text).data, parts.body
        except NotFrontMatterError as error:
            self.notes.append(
                f"Its front matter was read line by line, because of line {error.line}: "
                f"{error.message}."
            )
            return dict(_lines(parts.front)), parts.body

    def translated(self, key: str, value: Json) -> JsonObject:
        """What a key means here."""
        if value is None:
            return {}
        if key in self._special:
            return self._special[key](value)
        if key in _SAMPLING:
            return {"sampling": {key: value}}
        if key in KEYS:
            return {key: value}
        self._left_out(key, vocabulary.KEYS.get(key, "It means nothing in Corral."))
        return {}

    def servers(self, data: Mapping[str, Json]) -> JsonObject:
        """The servers of the agent's tools, so that they are there whatever the settings offer."""
        tools = data.get("tools")
        if "servers" in data or not isinstance(tools, list):
            return {}
        named = dict.fromkeys(str(tool).partition("__")[0] for tool in tools)
        return {"servers": [name for name in named if name != "agents"]}

    @property
    def _special(self) -> Mapping[str, Callable[[Json], JsonObject]]:
        return {
            "tools": self._tools,
            "model": self._model,
            "permissionMode": self._permissions,
            "disallowedTools": self._disallowed,
            "maxTurns": self._turns,
            "effort": self._effort,
        }

    def _tools(self, value: Json) -> JsonObject:
        names = self._names("tools", value)
        return {} if names is None else {"tools": names}

    def _names(self, key: str, value: Json) -> list[Json] | None:
        written = value if isinstance(value, list) else vocabulary.listed(str(value))
        read = vocabulary.read_tools([str(one) for one in written])
        for name, hint in read.unknown if read is not None else ():
            self._left_out(f"{key}: {name}", hint)
        return list(read.names) if read is not None else None

    def _disallowed(self, value: Json) -> JsonObject:
        names = self._names("disallowedTools", value) or []
        return {"policy": [{"tool": name, "action": "deny"} for name in names]}

    def _model(self, value: Json) -> JsonObject:
        model = str(value)
        if model.startswith("claude-"):
            return {"model": f"anthropic:{model}"}
        if model != vocabulary.INHERIT and (hint := vocabulary.model_hint(model)):
            self._left_out(f"model: {model}", f"{hint} Until then it is that of your settings.")
            return {}
        return {} if model == vocabulary.INHERIT else {"model": value}

    def _permissions(self, value: Json) -> JsonObject:
        if value == "plan":
            return {"policy": "read-only"}
        if value != "default":
            self._left_out(f"permissionMode: {value}", "What is free is said by your own rules.")
        return {}

    def _turns(self, value: Json) -> JsonObject:
        return {"limits": {"max_steps": int(str(value))}} if str(value).isdecimal() else {}

    def _effort(self, value: Json) -> JsonObject:
        return {"reasoning": value if value in _EFFORTS else "high"}

    def _left_out(self, what: str, hint: str) -> None:
        self.notes.append(f"Left out: {what}. {hint}")


def _lines(front: str) -> Iterator[tuple[str, Json]]:
    """Front matter that is no YAML, as products read it that take each line for a key."""
    key, lines = "", list[str]()
    for line in front.splitlines():
        found = _KEY.fullmatch(line)
        if found is None:
            lines.append(line.strip())
            continue
        if key:
            yield key, _text(lines)
        key, lines = found[1], [found[2] or ""]
    if key:
        yield key, _text(lines)


def _text(lines: list[str]) -> Json:
    text = "\n".join(lines).strip()
    for quote in "\"'":
        if len(text) > 1 and text[0] == text[-1] == quote:
            text = text[1:-1]
    return text.replace("\\n", "\n") or None
