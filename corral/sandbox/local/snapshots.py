"""Archives of workspaces, kept by their content under Corral's home."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from pathlib import Path

import platformdirs

from corral.errors import SandboxError
from corral.sandbox.contract import Profile, Snapshot

_REF = re.compile(r"[0-9a-f]{64}")


def keep(backend: str, archive: bytes) -> Snapshot:
    """Store an archive; equal ones are stored once. Raises ``SandboxError`` when it cannot be."""
    ref = hashlib.sha256(archive).hexdigest()
    folder = _folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            file.write(archive)
        Path(file.name).replace(folder / ref)
    except OSError as error:
        raise SandboxError(
            f"The snapshot could not be kept in {folder}: {error.strerror}.",
            hint="Make room there, or set CORRAL_HOME to a folder that can be written.",
        ) from error
    return Snapshot(backend, ref)


def load(snapshot: Snapshot) -> bytes:
    """The archive of a snapshot. Raises ``SandboxError`` when it is gone."""
    try:
        return (_folder() / snapshot.ref).read_bytes()
    except OSError as error:
        raise SandboxError(
            f"There is no snapshot {snapshot.ref[:12]} here.", hint="It was removed; start afresh."
        ) from error


def remove(snapshot: Snapshot) -> None:
    """Let a snapshot go. Nothing happens if it is gone already."""
    if _REF.fullmatch(snapshot.ref):
        (_folder() / snapshot.ref).unlink(missing_ok=True)


def check(snapshot: Snapshot, backend: str, profile: Profile) -> None:
    """Raise ``SandboxError`` for a snapshot that cannot be opened with this profile."""
    if snapshot.backend != backend or not _REF.fullmatch(snapshot.ref):
        raise SandboxError(
            f"The snapshot is one of {snapshot.backend}, not of {backend}.",
            hint="Open it with the back end that made it.",
        )
    if profile.workdir is not None:
        raise SandboxError(
            "A snapshot is opened in a workspace of its own, and the profile names a folder.",
            hint="Leave the working folder out of the profile.",
        )


def _folder() -> Path:
    home = os.environ.get("CORRAL_HOME") or platformdirs.user_data_path("corral")
    return Path(home) / "sandboxes"
