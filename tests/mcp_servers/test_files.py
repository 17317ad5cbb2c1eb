"""The files server: what it reads, writes and refuses."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import subprocess
import sys
import threading
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

from corral.mcp_servers.files.reading import MAX_BYTES
from tests.mcp_servers.client import ROOT, RawClient


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def files(folder: Path) -> Iterator[RawClient]:
    with RawClient.of("files", folder) as client:
        yield client


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("canary")
    return path


def test_the_declarations_tell_the_truth(files: RawClient) -> None:
    tools = {t["name"]: t for t in files.request("tools/list")["result"]["tools"]}
    hints = {name: tool["annotations"] for name, tool in tools.items()}
    reads = ["list_directory", "tree", "read_file", "search_files", "list_trash"]
    assert [name for name, hint in hints.items() if hint["readOnlyHint"]] == reads
    assert {name for name, hint in hints.items() if hint["destructiveHint"]} == {
        *("write_file", "edit_file", "apply_patch", "move", "delete")
    }
    assert hints["write_file"]["idempotentHint"]
    assert not hints["edit_file"]["idempotentHint"]
    assert not any(hint["openWorldHint"] for hint in hints.values())
    assert tools["write_file"]["inputSchema"]["required"] == ["path", "content"]


def test_list_directory(files: RawClient, folder: Path) -> None:
    assert files.text("list_directory") == "(empty)"
    (folder / "b").mkdir()
    (folder / "a.txt").write_text("12345")
    (folder / "link").symlink_to("a.txt")
    os.mkfifo(folder / "pipe")
    result = files.call("list_directory", path=".")
    assert result["structuredContent"] == {
        "path": ".",
        "total": 4,
        "next_offset": None,
        "entries": [
            {"name": "a.txt", "kind": "file", "size": 5},
            {"name": "b", "kind": "folder", "size": 0},
            {"name": "link", "kind": "link", "size": 0},
            {"name": "pipe", "kind": "pipe", "size": 0},
        ],
    }
    assert result["content"][0]["text"].splitlines()[:2] == ["a.txt  (5 bytes)", "b/"]
    assert "not a folder" in files.fault("list_directory", path="a.txt")
    assert "no such file" in files.fault("list_directory", path="missing")


def test_a_long_listing_comes_in_pages(files: RawClient, folder: Path) -> None:
    for number in range(1005):
        (folder / f"{number:04}").touch()
    first = files.text("list_directory")
    assert first.endswith("[entries: 1 to 1000 of 1005: go on with offset=1000]")
    rest = files.call("list_directory", offset=1000)["structuredContent"]
    assert [entry["name"] for entry in rest["entries"]][::4] == ["1000", "1004"]
    assert rest["next_offset"] is None
    assert "none of 1005" in files.text("list_directory", offset=5000)


def test_tree(files: RawClient, folder: Path) -> None:
    (folder / "a" / "b" / "c" / "d").mkdir(parents=True)
    (folder / "a" / "b" / "c" / "d" / "deep").touch()
    (folder / "a" / "x.py").touch()
    (folder / "a" / "x.log").touch()
    (folder / "link").symlink_to("a")
    (folder / ".gitignore").write_text("*.log\n")
    (folder / ".git").mkdir()
    assert files.text("tree").splitlines() == [
        ".gitignore",
        "a/",
        "  b/",
        "    c/  (1 inside)",
        "  x.py",
        "link  (link)",
    ]
    assert files.text("tree", path="a/b", depth=5).splitlines() == ["c/", "  d/", "    deep"]
    for number in range(150):
        (folder / f"f{number:03}").touch()
    text = files.text("tree", depth=1)
    assert text.splitlines()[-2:] == [
        "[53 more]",
        "[not all is shown: name a folder of it, or raise limit]",
    ]
    assert not files.call("tree", limit=3)["structuredContent"]["complete"]


def test_read_file_in_parts(files: RawClient, folder: Path) -> None:
    (folder / "lines").write_text("".join(f"line {n}\n" for n in range(1, 11)))
    whole = (folder / "lines").read_text()
    assert files.text("read_file", path="lines") == whole
    assert files.text("read_file", path=str(folder / "lines")) == whole
    part = files.text("read_file", path="lines", offset=3, limit=2)
    assert part.startswith("line 3\nline 4\n\n[lines 3 to 4 are shown")
    assert "read on with offset=5" in part
    assert files.text("read_file", path="lines", offset=9, limit=2) == "line 9\nline 10\n"
    assert "no line 12" in files.fault("read_file", path="lines", offset=12)
    (folder / "empty").touch()
    assert files.text("read_file", path="empty") == "[the file is empty]"


def test_reading_on_gives_the_whole_file(files: RawClient, folder: Path) -> None:
    lines = [f"{number} " + "x" * (number % 300) for number in range(5000)]
    (folder / "big").write_text("\n".join(lines))
    read: list[str] = []
    offset = 1
    while True:
        text = files.text("read_file", path="big", offset=offset)
        assert len(text) < MAX_BYTES + 500
        body, mark, note = text.rpartition("\n[lines ")
        read += (body if mark else text).splitlines()
        if not mark:
            break
        offset = int(note.rpartition("offset=")[2].rstrip("]"))
    assert read == lines


def test_a_line_without_end_is_cut(files: RawClient, folder: Path) -> None:
    (folder / "long").write_text("a" * (3 * MAX_BYTES) + "\nlast\n")
    text = files.text("read_file", path="long")
    assert text.startswith("a" * MAX_BYTES + "\n[line 1 is longer than")
    assert files.text("read_file", path="long", offset=2) == "last\n"


def test_what_is_not_text(files: RawClient, folder: Path) -> None:
    (folder / "binary").write_bytes(b"\x7fELF\0\0")
    (folder / "latin").write_bytes(b"caf\xe9\n")
    assert "binary file (6 bytes)" in files.fault("read_file", path="binary")
    assert files.text("read_file", path="latin").startswith("caf\ufffd\n\n[bytes that are not")
    assert "not UTF-8" in files.fault("edit_file", path="latin", old="c", new="d")
    assert files.text("read_file", path="latin", encoding="latin-1") == "café\n"
    (folder / "wide").write_bytes("café\nline 2\n".encode("utf-16"))
    assert files.text("read_file", path="wide", offset=2) == "line 2\n"
    (folder / "marked").write_bytes(b"\xef\xbb\xbfx")
    assert files.text("read_file", path="marked") == "x"


def test_pictures(files: RawClient, folder: Path) -> None:
    size = (640).to_bytes(4, "big") + (480).to_bytes(4, "big")
    data = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + size
    (folder / "p.png").write_bytes(data)
    text, image = files.call("read_file", path="p.png")["content"]
    assert text["text"] == "p.png is a image/png image, 640 x 480 pixels (24 bytes)."
    assert image == {
        "type": "image",
        "data": base64.b64encode(data).decode(),
        "mimeType": "image/png",
    }
    with (folder / "p.png").open("r+b") as file:
        file.truncate(5 << 20)
    assert "too large to be shown" in files.fault("read_file", path="p.png")


def test_a_name_is_found_however_its_accents_are_written(files: RawClient, folder: Path) -> None:
    (folder / unicodedata.normalize("NFD", "café")).write_text("x")
    assert files.text("read_file", path=unicodedata.normalize("NFC", "café")) == "x"
    files.text("write_file", path=unicodedata.normalize("NFC", "café"), content="y")
    assert len(list(folder.iterdir())) == 1


def test_write_file(files: RawClient, folder: Path) -> None:
    text = files.text("write_file", path="new/deep/file.txt", content="grün\n")
    assert text == "Created new/deep/file.txt: 6 bytes."
    path = folder / "new" / "deep" / "file.txt"
    assert path.read_bytes() == "grün\n".encode()
    path.chmod(0o750)
    again = files.call("write_file", path="new/deep/file.txt", content="")
    assert again["structuredContent"]["created"] is False
    assert "-grün" in again["structuredContent"]["diff"]
    assert path.stat().st_mode & 0o7777 == 0o750
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]
    assert "is a folder" in files.fault("write_file", path="new", content="")
    assert "is a folder" in files.fault("write_file", path=".", content="")
    assert "not a folder" in files.fault("write_file", path="new/deep/file.txt/x", content="")


def test_a_write_that_fails_leaves_the_old_file(folder: Path) -> None:
    (folder / "file").write_text("old")
    limited = ["prlimit", "--fsize=1000", sys.executable, "-m", "corral.mcp_servers", "files"]
    with RawClient([*limited, "--root", str(folder)]) as files:
        assert "file too large" in files.fault("write_file", path="file", content="x" * 5000)
    assert (folder / "file").read_text() == "old"
    assert [entry.name for entry in folder.iterdir()] == ["file"]


def test_edit_file(files: RawClient, folder: Path) -> None:
    (folder / "code.py").write_text("def f():\n    return 1\n\ndef g():\n    return 1\n")
    text = files.text(
        "edit_file", path="code.py", old="g():\n    return 1", new="g():\n    return 2"
    )
    assert "-    return 1\n+    return 2" in text
    assert (folder / "code.py").read_text().endswith("return 2\n")
    twice = files.fault("edit_file", path="code.py", old="return", new="yield")
    assert "occurs 2 times in code.py (lines 2, 5)" in twice
    near = files.fault("edit_file", path="code.py", old="  return 1 ", new="")
    assert "Nearest is line 2: '    return 1'" in near
    (folder / "dos").write_bytes(b"a\r\nb\r\n")
    assert "CR LF" in files.fault("edit_file", path="dos", old="a\nb", new="c")
    assert "the same" in files.fault("edit_file", path="dos", old="a", new="a")
    assert "no such file" in files.fault("edit_file", path="missing", old="a", new="b")


def test_edits_at_once_do_not_undo_each_other(files: RawClient, folder: Path) -> None:
    (folder / "file").write_text("".join(f"<{number}>\n" for number in range(12)))
    sent = {
        files.send(
            "tools/call",
            {"name": "edit_file", "arguments": {"path": "file", "old": f"<{n}>", "new": "done"}},
        )
        for n in range(12)
    }
    assert {files.receive()["id"] for _ in sent} == sent
    assert (folder / "file").read_text() == "done\n" * 12


@pytest.mark.parametrize(
    "path", ["../secret", "/etc/passwd", "a/../../secret", "out", "out-folder/secret", "loop", "up"]
)
def test_nothing_outside_can_be_reached(
    files: RawClient, folder: Path, secret: Path, path: str
) -> None:
    (folder / "a").mkdir()
    (folder / "out").symlink_to(secret)
    (folder / "out-folder").symlink_to(secret.parent)
    (folder / "loop").symlink_to("loop")
    (folder / "up").symlink_to("a/../../secret")
    for tool, more in (
        ("read_file", {}),
        ("write_file", {"content": "x"}),
        ("edit_file", {"old": "canary", "new": "x"}),
        ("search_files", {"pattern": "canary"}),
        ("list_directory", {}),
    ):
        arguments = {"path": path, **more}
        assert "canary" not in files.fault(tool, **arguments)
    assert secret.read_text() == "canary"
    assert "NUL" in files.fault("read_file", path="a\0b")


def test_links_that_stay_inside_are_followed(files: RawClient, folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "real" / "file").write_text("text")
    (folder / "link").symlink_to("real")
    (folder / "absolute").symlink_to(folder / "real" / "file")
    assert files.text("read_file", path="link/file") == "text"
    assert files.text("read_file", path="absolute") == "text"
    assert "real/file" in files.text("write_file", path="link/file", content="new")
    assert files.text("read_file", path="link/../real/file") == "new"
    assert (folder / "absolute").is_symlink()


def test_a_folder_that_is_exchanged_for_a_link_never_leads_out(
    files: RawClient, folder: Path, secret: Path
) -> None:
    """The race that checking a path before opening it loses."""
    inner = folder / "d"
    inner.mkdir()
    (inner / "secret").write_text("harmless")
    aside = folder / "aside"
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                inner.rename(aside)
                inner.symlink_to(secret.parent)
                inner.unlink()
                aside.rename(inner)

    thread = threading.Thread(target=exchange)
    thread.start()
    try:
        texts = [str(files.call("read_file", path="d/secret")["content"]) for _ in range(1500)]
    finally:
        stop.set()
        thread.join()
    assert any("harmless" in text for text in texts)
    assert not any("canary" in text for text in texts)


@pytest.mark.parametrize("name", ["pipe", "socket", "device"])
def test_what_is_no_file_is_not_opened(files: RawClient, folder: Path, name: str) -> None:
    path = folder / name
    if name == "pipe":
        os.mkfifo(path)
    elif name == "socket":
        with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(folder):
            made.bind(name)
    elif os.geteuid() == 0:
        os.mknod(path, 0o020666, os.makedev(1, 5))
    else:
        pytest.skip("only root can make a device")
    for tool, more in (
        ("read_file", {}),
        ("write_file", {"content": "x"}),
        ("edit_file", {"old": "a", "new": "b"}),
    ):
        arguments = {"path": name, **more}
        assert f"a {name}" in files.fault(tool, **arguments)
    assert files.text("search_files", pattern="x") == "No line matches."


@pytest.mark.parametrize(
    "path",
    [
        ".git/hooks/x",
        "sub/.GIT/config",
        "l/x",
        "l/new/x",
        "linked/.git/x",
        "corral.toml",
        "CORRAL.TOML",
        ".g\u200dit/x",
        "\uff0egit/x",
        ".git./x",
        ".corral-trash/x",
    ],
)
def test_what_would_run_outside_cannot_be_written(
    files: RawClient, folder: Path, path: str
) -> None:
    (folder / ".git").mkdir()
    (folder / "l").symlink_to(".git")
    (folder / "linked").symlink_to(folder)
    assert "protected" in files.fault("write_file", path=path, content="x")
    assert not list((folder / ".git").iterdir())
    assert not (folder / "sub").exists()


def test_several_roots(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        folder.mkdir()
        (folder / "name").write_text(folder.name)
    with RawClient.of("files", first, second) as files:
        assert files.text("read_file", path="name") == "first"
        assert files.text("read_file", path=str(second / "name")) == "second"
        fault = files.fault("read_file", path=str(tmp_path))
        assert f"{first}, {second}" in fault


def test_as_a_module_the_current_folder_is_the_root(folder: Path) -> None:
    (folder / "here").touch()
    command = [sys.executable, "-m", "corral.mcp_servers", "files"]
    with RawClient(command, cwd=folder) as files:
        assert files.text("list_directory") == "here  (0 bytes)"


@pytest.mark.parametrize("options", [["--root"], ["--root", "/no/such"], ["extra"]])
def test_a_wrong_command_line_is_refused(options: list[str]) -> None:
    command = [sys.executable, "-m", "corral.mcp_servers", "files", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, check=False, text=True)
    assert done.returncode == 2
    assert "files" in done.stderr
