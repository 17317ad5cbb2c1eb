"""Make the OCI bundle of a gVisor container, as the user that it is to run as.

gVisor runs rootless: its user 0 is whoever starts it, here never host uid 0, and the program
inside has no capabilities. Everything that it needs is in one folder, removed with the sandbox.

Source: the OCI runtime specification; gvisor.dev/docs.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from corral.sandbox.launcher import linux, staging
from corral.sandbox.launcher.order import Bind, Order, Program


def command(order: Order, user: int) -> Program:
    """Make the bundle; runsc, to run it. Started by root, this process becomes ``user`` first.

    Raises ``OSError`` or
    ``staging.StagingError`` when that cannot be done.
    """
    private, binds, program = Path(order.private), list(order.binds), order.runsc
    if os.geteuid() == 0:
        program, binds = _stage(order, user)
    else:
        private.mkdir(mode=0o700)
    for part in ("bundle", "state"):
        (private / part).mkdir()
    config = _config(order, binds, _root(private / "rootfs", order.files))
    (private / "bundle" / "config.json").write_text(json.dumps(config))
    # Modes reach the host's files: a file that runs as its owner must not be left there.
    linux.no_new_privileges()
    linux.filter_calls(base64.b64decode(order.seccomp))
    where = ["--bundle", str(private / "bundle"), private.name]
    argv = ["runsc", "--root", str(private / "state"), *order.options, "run", *where]
    return Program(program, argv, {"PATH": os.defpath})


def _stage(order: Order, user: int) -> tuple[str, list[Bind]]:
    stage = staging.Stage(user)
    program = stage.add(order.runsc, writable=False)
    binds = [
        Bind(stage.add(bind.source, writable=bind.writable), bind.target, bind.writable)
        if bind.source
        else bind
        for bind in order.binds
    ]
    stage.attach()
    Path(order.private).mkdir(mode=0o700)
    os.chown(order.private, user, user)
    staging.drop(user)
    return program, binds


def _root(folder: Path, files: Mapping[str, str]) -> Path:
    """The root folder: links as the host has them, generated files, and nothing else."""
    for name, text in files.items():
        path = folder / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for entry in Path("/").iterdir():
        if entry.is_symlink():
            (folder / entry.name).symlink_to(entry.readlink())
    return folder


def _config(order: Order, binds: Sequence[Bind], root: Path) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(order.config)
    config["root"]["path"] = str(root)
    system = [Bind(path, path) for path in order.system if Path(path).exists()]
    config["mounts"] += [_mount(bind) for bind in (*system, *binds)]
    return config


def _mount(bind: Bind) -> dict[str, Any]:
    if not bind.source:
        empty = ["nosuid", "nodev", "mode=0755", "size=64k"]
        return {"destination": bind.target, "type": "tmpfs", "source": "tmpfs", "options": empty}
    options = ["rbind", "rw" if bind.writable else "ro"]
    return {
        "destination": bind.target,
        "type": "bind",
        "source": bind.source,
        "options": options,
    }
