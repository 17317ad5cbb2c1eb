"""The tool ``download``: a file of the web into the workspace, whole or not at all."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from http import HTTPStatus
from urllib.parse import unquote

from corral.mcp_servers.beneath import Place, Roots, fitting
from corral.mcp_servers.tool import Answer, Call, ToolFault
from corral.mcp_servers.web.addresses import Address
from corral.mcp_servers.web.texts import one_line
from corral.mcp_servers.web.transport import Head, Sink, Transport, run
from corral.mcp_servers.web.visiting import Found, Visitor
from corral.sandbox.guest.beneath import regular

DEFAULT_TIMEOUT, MAX_TIMEOUT = 120, 600
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def download(visitor: Visitor, roots: Roots, call: Call) -> Answer:
    """The tool. A file that is there stays as it is, unless ``overwrite`` says otherwise."""
    start = visitor.start(call.text("url"))
    with roots.at(call.text("path") or _name(start), write=True, create=True) as place:
        overwrite = call.flag("overwrite")
        _check(place, overwrite=overwrite)
        staged = _Staged(place, call)
        try:
            found = _fetched(visitor, start, staged, call)
            staged.put(overwrite=overwrite)
        finally:
            staged.discard()
    digest = staged.digest.hexdigest()
    kind = one_line(found.head.kind, 80)
    text = (
        f"Saved {place.shown}: {staged.size} bytes, {kind or 'of unknown type'}, sha256 {digest}."
    )
    return Answer(
        "\n".join([*found.moved(), text]),
        {
            "path": place.shown,
            "url": found.address.url,
            "bytes": staged.size,
            "sha256": digest,
            "type": kind,
        },
    )


def _fetched(visitor: Visitor, start: Address, staged: _Staged, call: Call) -> Found:
    async def work(transport: Transport) -> Found:
        found = await visitor.store(transport, start, Sink(staged.begin, staged.take))
        if found.head.status != HTTPStatus.OK:
            raise ToolFault(f"Nothing was saved: {found.head.told(found.address)}")
        return found

    seconds = call.number("timeout", DEFAULT_TIMEOUT)
    return run(call, visitor.settings.agent, seconds, work)


def _name(address: Address) -> str:
    """What a file is called whose name is not given: as the last part of its path."""
    last = unquote(address.target.partition("?")[0].rpartition("/")[2])
    name = one_line(last, 100).replace("/", "_").lstrip(".")
    if not name:
        raise ToolFault("The address ends in no name for a file: give one in path.")
    return name


def _check(place: Place, *, overwrite: bool) -> None:
    if place.name == ".":
        raise ToolFault(f"{place.shown} is a folder: give the path of a file.")
    with fitting(place):
        is_there = regular(place.folder, place.name) is not None
    if is_there and not overwrite:
        raise ToolFault(
            f"{place.shown} is there already and was left as it is: choose another path, "
            "or set overwrite."
        )


class _Staged:
    """A file beside its place, until all of it is there."""

    def __init__(self, place: Place, call: Call) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self._place, self._call = place, call
        self._total: int | None = None
        self._name = f".{place.name[:40]}.{os.urandom(6).hex()}.tmp"
        self._fd = os.open(self._name, _CREATE, 0o666, dir_fd=place.folder)

    def begin(self, head: Head) -> None:
        """The file begins: how long it will be, if that is known."""
        self._total = head.size

    def take(self, piece: bytes) -> None:
        """More of it."""
        data = memoryview(piece)
        self.digest.update(data)
        self.size += len(data)
        while data:
            data = data[os.write(self._fd, data) :]
        self._call.progress(self.size, self._total, f"saving {self._place.shown}")

    def put(self, *, overwrite: bool) -> None:
        """Put it in its place, flushed to the disk. Raises ``ToolFault`` when that is taken."""
        os.fsync(self._fd)
        folder, name = self._place.folder, self._place.name
        if overwrite:
            os.rename(self._name, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            try:
                os.link(self._name, name, src_dir_fd=folder, dst_dir_fd=folder)
            except FileExistsError as error:
                raise ToolFault(f"{self._place.shown} has come into being meanwhile.") from error
        os.fsync(folder)

    def discard(self) -> None:
        """Take away what is still beside its place."""
        os.close(self._fd)
        with suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._place.folder)
