"""References of several models: ``a | b``, and the names of ``[models.NAME]``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator

from corral.errors import ConfigError, NotFoundError
from corral.runtime.models.combined.settings import CombinedModel

SEPARATOR = "|"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_TAKEN = ("local", "scripted", "openai", "anthropic")


def _joined(value: object) -> object:
    if isinstance(value, list | tuple) and value and all(isinstance(one, str) for one in value):
        return f" {SEPARATOR} ".join(value)
    return value


ModelReference = Annotated[str, BeforeValidator(_joined)]
"""A model reference in the settings; a list of several is the same as ``a | b``."""


def alternatives(ref: str) -> tuple[str, ...]:
    """The references in one, in order. Raises ``NotFoundError`` for an empty one."""
    found = tuple(one.strip() for one in ref.split(SEPARATOR))
    if not any(found):
        raise NotFoundError("No model is named.", hint="See: corral models list")
    if not all(found):
        raise NotFoundError(
            f"There is an empty place in the models {ref!r}.",
            hint="Write them as: openai:gpt-5-mini | local",
        )
    return tuple(dict.fromkeys(found))


def check_names(models: Mapping[str, CombinedModel]) -> None:
    """Raise ``ConfigError`` for a name of ``[models.NAME]`` that could not be referred to."""
    fine: set[str] = set()
    for name in models:
        if name in _TAKEN or name.endswith(".gguf") or not _NAME.fullmatch(name):
            raise ConfigError(
                f"[models.{name}]: {name!r} cannot be the name of a model of yours.",
                hint="Choose another of letters, digits, dots, dashes and underscores.",
            )
        _check_circle(name, models, (), fine)


def _check_circle(
    name: str, models: Mapping[str, CombinedModel], above: tuple[str, ...], fine: set[str]
) -> None:
    if name in above:
        circle = " → ".join((*above[above.index(name) :], name))
        raise ConfigError(
            f"[models.{name}] would ask itself: {circle}.",
            hint="Take it out of one of them.",
        )
    if name in fine:
        return
    for ref in models[name].references:
        for one in alternatives(ref):
            if one in models:
                _check_circle(one, models, (*above, name), fine)
    fine.add(name)
