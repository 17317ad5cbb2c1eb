"""Archives that move into a sandbox and out of it: all are checked before anything is written."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.errors import SandboxError
from corral.sandbox.files.archive import Bounds
from corral.sandbox.files.local import LocalFiles

BOUNDS = Bounds(total=40 << 20, file=30 << 20, entries=100)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "workspace"
    made.mkdir()
    return made


@pytest.fixture
def files(folder: Path) -> Iterator[LocalFiles]:
    fd = os.open(folder, os.O_RDONLY)
    made = LocalFiles(fd, BOUNDS)
    os.close(fd)
    yield made
    made.close()


def tar_of(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for info, data in entries:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def info(name: str, kind: bytes = tarfile.REGTYPE, mode: int = 0o644) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.mode, made.linkname = kind, mode, "target"
    made.uid, made.gid = 4321, 4321
    return made


def zip_of(*entries: tuple[str, bytes], mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)
    return buffer.getvalue()


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
async def test_tar(
    files: LocalFiles, folder: Path, pack: Callable[[bytes], bytes], form: int
) -> None:
    long = "/".join(["a" * 40] * 4)
    archive = tar_of(
        (info("d", tarfile.DIRTYPE, 0o755), b""),
        (info("d/tool", mode=0o4755), b"#!"),
        (info(f"{long}/name"), b"x" * 1000),
        form=form,
    )
    assert await files.put_archive(pack(archive), "in") == 3
    tool = (folder / "in/d/tool").stat()
    assert stat.S_IMODE(tool.st_mode) == 0o755
    assert tool.st_uid == os.geteuid()
    assert (folder / "in" / long / "name").read_bytes() == b"x" * 1000


async def test_zip(files: LocalFiles, folder: Path) -> None:
    archive = zip_of(("d/", b""), ("d/e/f", b"text"), mode=0)
    assert await files.put_archive(archive) == 2
    assert (folder / "d/e/f").read_text() == "text"


async def test_what_goes_out_can_come_in(files: LocalFiles, folder: Path) -> None:
    await files.write("a/b", b"1")
    await files.write("é/ü", b"2")
    (folder / "a/b").chmod(0o6755)
    (folder / "link").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe")
    archive = await files.get_archive()
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        found = {member.name: (member.mode, member.uid) for member in opened}
    assert set(found) == {"a", "a/b", "é", "é/ü"}
    assert found["a/b"] == (0o755, 0)
    assert await files.put_archive(archive, "copy") == 4
    assert await files.read("copy/é/ü") == b"2"


def bomb(pack: Callable[[bytes], bytes]) -> bytes:
    return pack(tar_of((info("big"), bytes(29 << 20))))


def damaged() -> bytes:
    good = bytearray(tar_of((info("f"), b"x")))
    good[10] ^= 1
    return bytes(good)


HOSTILE: dict[str, tuple[bytes, str]] = {
    "up": (tar_of((info("../x"), b"x")), "would leave the folder"),
    "up inside": (tar_of((info("a/../../x"), b"x")), "would leave the folder"),
    "absolute": (tar_of((info("/tmp/x"), b"x")), "would leave the folder"),
    "link": (tar_of((info("l", tarfile.SYMTYPE), b"")), "'l' is a link"),
    "hard link": (tar_of((info("l", tarfile.LNKTYPE), b"")), "'l' is a hard link"),
    "device": (tar_of((info("null", tarfile.CHRTYPE), b"")), "is a device"),
    "pipe": (tar_of((info("p", tarfile.FIFOTYPE), b"")), "is a pipe"),
    "twice": (tar_of((info("f"), b"1"), (info("f"), b"2")), "is in it twice"),
    "twice in another case": (tar_of((info("f"), b"1"), (info("F"), b"2")), "is in it twice"),
    "below a file": (tar_of((info("f"), b"1"), (info("f/g"), b"2")), "a folder that is a file"),
    "over a folder": (tar_of((info("f/g"), b"1"), (info("f"), b"2")), "is in it twice"),
    "too many": (tar_of(*((info(f"f{n}"), b"") for n in range(101))), "more than 100 entries"),
    "too large": (tar_of((info("f"), bytes((30 << 20) + 1))), "more than 31457280 bytes"),
    "gzip bomb": (bomb(gzip.compress), "more than it may"),
    "bzip2 bomb": (bomb(bz2.compress), "more than it may"),
    "xz bomb": (bomb(lzma.compress), "more than it may"),
    "cut off": (tar_of((info("f"), b"x" * 5000))[:2000], "is cut off"),
    "gzip cut off": (gzip.compress(tar_of((info("f"), b"x")))[:-12], "too early"),
    "damaged": (damaged(), "a header is damaged"),
    "no archive": (b"hello", "ends within a header"),
    "zip: up": (zip_of(("../x", b"x")), "would leave the folder"),
    "zip: absolute": (zip_of(("/x", b"x")), "would leave the folder"),
    "zip: backslash": (zip_of(("..\\x", b"x")), "backslash"),
    "zip: link": (zip_of(("l", b"/etc"), mode=stat.S_IFLNK | 0o777), "is a link"),
    "zip: device": (zip_of(("d", b""), mode=stat.S_IFCHR), "is a device"),
    "zip: twice": (zip_of(("f", b"1"), ("F", b"2")), "is in it twice"),
    "zip: bomb": (zip_of(("f", bytes(29 << 20))), "more than it may"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_archive_writes_nothing(files: LocalFiles, folder: Path, name: str) -> None:
    archive, why = HOSTILE[name]
    with pytest.raises(SandboxError, match="not unpacked") as raised:
        await files.put_archive(archive)
    assert why in raised.value.message
    assert not list(folder.iterdir())
    assert not (folder.parent / "x").exists()


async def test_a_link_in_the_way_is_not_followed(files: LocalFiles, folder: Path) -> None:
    (folder / "d").symlink_to(folder.parent)
    with pytest.raises(SandboxError, match="leads out"):
        await files.put_archive(tar_of((info("d/x"), b"x")))
    assert not (folder.parent / "x").exists()


@given(data=st.binary(max_size=2000), cut=st.integers(0, 3000), at=st.integers(0, 3000))
@settings(max_examples=150, deadline=None)
async def test_any_archive_is_unpacked_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int, at: int
) -> None:
    good = tar_of((info("d", tarfile.DIRTYPE), b""), (info("d/f"), b"x" * 600))
    folder = tmp_path_factory.mktemp("any")
    fd = os.open(folder, os.O_RDONLY)
    files = LocalFiles(fd, BOUNDS)
    os.close(fd)
    with closing(files), suppress(SandboxError):
        await files.put_archive(good[:at] + data + good[cut:])
