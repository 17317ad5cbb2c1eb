"""Where the paths in a call's arguments really lead."""

from __future__ import annotations

import os

from corral.jsontypes import JsonObject
from corral.policies.patterns.paths import path_values


def links_of(args: JsonObject, workspace: str) -> dict[str, str]:
    """The targets of those paths that lead elsewhere by links, by the path as it is written.

    A path is followed as the system does it, ``..`` after a link included. A target in the
    workspace is given below ``workspace`` as that is written.
    """
    paths = path_values(args)
    if not paths:
        return {}
    base = os.path.realpath(workspace)
    found = {}
    for path in paths:
        if "\0" in path:
            continue
        whole = os.path.join(workspace, path)  # noqa: PTH118  # pathlib would drop what is odd in it
        real = os.path.realpath(whole)
        if real == base or real.startswith(f"{base.rstrip('/')}/"):
            real = os.path.normpath(f"{workspace}/{real[len(base) :]}")
        if real != os.path.normpath(whole):
            found[path] = real
    return found
