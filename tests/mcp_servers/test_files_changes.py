"""Patches, moves and the trash: all or nothing, and nothing lost."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from corral.mcp_servers.files import patches
from corral.mcp_servers.files.differences import unified
from corral.mcp_servers.files.patches import BadPatch
from corral.policies.patterns.patches import patched_paths
from tests.mcp_servers.client import RawClient


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    made.mkdir()
    return made


@pytest.fixture
def files(folder: Path) -> Iterator[RawClient]:
    with RawClient.of("files", folder) as client:
        yield client


def contents(folder: Path) -> dict[str, str]:
    found = (path for path in folder.rglob("*") if path.is_file())
    texts = {str(path.relative_to(folder)): path.read_bytes().decode() for path in found}
    return {path: text for path, text in texts.items() if not path.startswith(".corral-trash")}


PATCH = """\
diff --git a/code.py b/code.py
index 123..456 100644
--- a/code.py
+++ b/code.py
@@ -2,3 +2,3 @@ def f():
 two
-three
+THREE
 four
--- /dev/null
+++ b/new/file.txt
@@ -0,0 +1,2 @@
+fresh
+text
--- a/old.txt
+++ /dev/null
@@ -1 +0,0 @@
-gone
"""


def test_a_patch_over_several_files(files: RawClient, folder: Path) -> None:
    (folder / "code.py").write_text("one\ntwo\nthree\nfour\n")
    (folder / "code.py").chmod(0o750)
    (folder / "old.txt").write_text("gone\n")
    result = files.call("apply_patch", patch=PATCH)
    assert contents(folder) == {
        "code.py": "one\ntwo\nTHREE\nfour\n",
        "new/file.txt": "fresh\ntext\n",
    }
    assert result["structuredContent"]["files"] == [
        {"path": "code.py", "change": "changed"},
        {"path": "new/file.txt", "change": "created"},
        {"path": "old.txt", "change": "deleted"},
    ]
    assert "-three\n+THREE" in result["structuredContent"]["diff"]
    assert (folder / "code.py").stat().st_mode & 0o777 == 0o750
    files.text("restore", path="old.txt")
    assert (folder / "old.txt").read_text() == "gone\n"


def test_a_hunk_that_does_not_fit_changes_nothing(files: RawClient, folder: Path) -> None:
    (folder / "code.py").write_text("one\ntwo\nthree!\nfour\n")
    (folder / "old.txt").write_text("gone\n")
    before = contents(folder)
    fault = files.fault("apply_patch", patch=PATCH)
    assert "Hunk 1 of code.py does not fit; nothing was changed." in fault
    assert "At line 3 it expects 'three', and the file has 'three!'." in fault
    assert contents(folder) == before
    assert not (folder / "new").exists()


def test_line_numbers_may_be_off(files: RawClient, folder: Path) -> None:
    (folder / "code.py").write_text("x\n" * 40 + "one\ntwo\nthree\nfour\n" + "x\n" * 10)
    (folder / "old.txt").write_text("gone\n")
    files.text("apply_patch", patch=PATCH)
    assert "two\nTHREE\nfour" in (folder / "code.py").read_text()


def test_the_nearest_place_counts(files: RawClient, folder: Path) -> None:
    (folder / "f").write_text("same\n" * 3 + "end\n" + "same\n" * 3)
    files.text("apply_patch", patch="--- f\n+++ f\n@@ -6 +6 @@\n-same\n+other\n")
    assert (folder / "f").read_text() == "same\n" * 3 + "end\nsame\nother\nsame\n"


def test_ends_of_lines_stay_as_they_are(files: RawClient, folder: Path) -> None:
    (folder / "dos").write_bytes(b"\xef\xbb\xbfone\r\ntwo\r\n")
    files.text("apply_patch", patch="--- a/dos\n+++ b/dos\n@@ -1,2 +1,2 @@\n-one\n+1\n two\n")
    assert (folder / "dos").read_bytes() == b"\xef\xbb\xbf1\r\ntwo\r\n"
    (folder / "open").write_text("one")
    patch = "--- a/open\n+++ b/open\n@@ -1 +1,2 @@\n-one\n\\ No newline at end of file\n+1\n+2\n"
    files.text("apply_patch", patch=patch)
    assert (folder / "open").read_text() == "1\n2\n"


def test_a_patch_can_rename(files: RawClient, folder: Path) -> None:
    (folder / "a").write_text("1\n2\n")
    files.text("apply_patch", patch="--- a/a\n+++ b/b\n@@ -1,2 +1,2 @@\n 1\n-2\n+3\n")
    assert contents(folder) == {"b": "1\n3\n"}


@pytest.mark.parametrize(
    ("patch", "why"),
    [
        ("", "must not be empty"),
        ("hello", "names no file"),
        ("@@ -1 +1 @@\n-a\n+b\n", "a hunk without --- and +++"),
        ("--- a/f\n+++ b/f\n", "no hunk for f"),
        ("--- a/f\n+++ b/f\n@@ -1,2 +1 @@\n-one\n+b\n", "says -2 +1 lines, and has -1 +1"),
        ("--- a/f\n+++ b/f\n@@ nonsense\n", "is no hunk's head"),
        ("--- /dev/null\n+++ b/f\n@@ -0,0 +1 @@\n+x\n", "f exists already"),
        ("--- a/none\n+++ b/none\n@@ -1 +1 @@\n-x\n+y\n", "There is no none to patch"),
        ("--- a/f\n+++ /dev/null\n@@ -1 +0,0 @@\n-one\n", "not all of its lines"),
        ("--- /dev/null\n+++ /dev/null\n@@ -0,0 +1 @@\n+x\n", "both sides"),
        ('--- "a/f"\n+++ "b/f"\n@@ -1 +1 @@\n-x\n+y\n', "write the plain name"),
        ("--- a/../x\n+++ b/../x\n@@ -1 +1 @@\n-x\n+y\n", "leads out"),
        ("--- a/.git/x\n+++ b/.git/x\n@@ -1 +1 @@\n-x\n+y\n", "protected"),
        ("--- /dev/null\n+++ b/.git/x\n@@ -0,0 +1 @@\n+x\n", "protected"),
        ("diff --git a/f b/f\nold mode 100644\nnew mode 100755\n", "changes permissions"),
        ("diff --git a/f b/g\nsimilarity index 100%\nrename from f\nrename to g\n", "use move"),
        ("diff --git a/e b/e\nnew file mode 100644\n", "changes no text"),
        ("diff --git a/p b/p\nGIT binary patch\n", "binary"),
        (
            "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-one\n+1\n--- a/f\n+++ b/f\n@@ -2 +2 @@\n-two\n+2\n",
            "changes f twice",
        ),
    ],
)
def test_what_is_refused(files: RawClient, folder: Path, patch: str, why: str) -> None:
    (folder / "f").write_text("one\ntwo\n")
    (folder / ".git").mkdir()
    assert why in files.fault("apply_patch", patch=patch)
    assert contents(folder) == {"f": "one\ntwo\n"}


def test_a_patch_that_breaks_off_is_taken_back(files: RawClient, folder: Path) -> None:
    (folder / "f").write_text("one\n")
    (folder / "g").write_text("gone\n")
    (folder / ".corral-trash").write_text("in the way")
    patch = (
        "--- a/f\n+++ b/f\n@@ -1 +1 @@\n-one\n+1\n--- a/g\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n"
    )
    assert "not the folder" in files.fault("apply_patch", patch=patch)
    assert (folder / "f").read_text() == "one\n"
    assert sorted(path.name for path in folder.iterdir()) == [".corral-trash", "f", "g"]


LINES = st.lists(
    st.sampled_from(["a", "b", "c", "", "- x", "+ y", "-- z", "++ z", "@@"]), max_size=9
)


@given(before=LINES, after=LINES, newline=st.booleans())
def test_a_diff_applied_gives_what_was_compared(
    before: list[str], after: list[str], newline: bool
) -> None:
    old, new = ("".join(f"{line}\n" for line in lines) for lines in (before, after))
    if not newline:
        old, new = (text.removesuffix("\n") for text in (old, new))
    mine, its = (text.splitlines(keepends=True) for text in (old, new))
    lines = difflib.unified_diff(mine, its, "a/f", "b/f")
    text = "".join(x if x.endswith("\n") else f"{x}\n\\ No newline at end of file\n" for x in lines)
    if not text:
        return
    (patch,) = patches.parse(text)
    assert patches.apply(patch, old) == new
    ours = unified("f", old, new)
    if newline and "only the ends" not in ours:
        assert patches.apply(patches.parse(ours + "\n")[0], old) == new


@given(
    text=st.lists(
        st.sampled_from(
            (
                *("--- a/x", "+++ b/x", "--- /dev/null", "+++ b/y/z", "--- q", "+++ ../up"),
                *("@@ -1 +1 @@", "@@ -0,0 +1 @@", "-a", "+b", " c", "diff --git a/x b/x"),
                *("--- a/x\t2026", "+++ b/x\r"),
            )
        ),
        max_size=12,
    )
)
def test_policy_sees_every_file_that_a_patch_changes(text: list[str]) -> None:
    patch = "\n".join(text)
    try:
        found = patches.parse(patch)
    except BadPatch:
        return
    assert {path for each in found for path in each.paths} <= set(patched_paths(patch))


def test_a_hostile_patch_takes_no_time() -> None:
    body = "".join(" \n" for _ in range(20_000))
    head = "--- a/f\n+++ b/f\n@@ -1,20001 +1,20000 @@\n"
    (patch,) = patches.parse(f"{head}{body}-x\n")
    with pytest.raises(BadPatch, match="does not fit"):
        patches.apply(patch, "\n" * 60_000)


def test_move(files: RawClient, folder: Path) -> None:
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    (folder / "link").symlink_to("/etc/passwd")
    assert files.text("move", source="a", destination="new/c") == "Moved a to new/c."
    files.text("move", source="new", destination="renamed")
    files.text("move", source="link", destination="renamed/link")
    assert contents(folder) == {
        "b": "b",
        "renamed/c": "a",
        "renamed/link": contents(folder)["renamed/link"],
    }
    assert (folder / "renamed" / "link").is_symlink()
    assert "b exists" in files.fault("move", source="renamed/c", destination="b")
    assert "into itself" in files.fault("move", source="renamed", destination="renamed/x")
    assert "stays where it is" in files.fault("move", source=".", destination="x")
    assert "no such file" in files.fault("move", source="none", destination="x")


@pytest.mark.parametrize(
    "target", ["../x", "/tmp/x", ".git/x", ".corral/agents/x.md", "corral.toml", "up/x"]
)
def test_nothing_is_moved_out(files: RawClient, folder: Path, target: str) -> None:
    (folder / "a").write_text("a")
    (folder / "up").symlink_to("..")
    assert files.fault("move", source="a", destination=target)
    assert files.fault("move", source=target, destination="b")
    assert (folder / "a").exists()


def test_delete_and_restore(files: RawClient, folder: Path) -> None:
    (folder / "d" / "e").mkdir(parents=True)
    (folder / "d" / "e" / "f").write_text("deep")
    (folder / "f").write_text("first")
    assert files.text("list_trash") == "The trash is empty."
    files.text("delete", path="d")
    first = files.call("delete", path="f")["structuredContent"]["id"]
    (folder / "f").write_text("second")
    files.text("delete", path="f")
    assert contents(folder) == {}
    listed = files.call("list_trash")["structuredContent"]
    assert [item["path"] for item in listed["items"]] == ["f", "f", "d"]
    files.text("restore", path="d/")
    files.text("restore", path="f", id=first)
    assert contents(folder) == {"d/e/f": "deep", "f": "first"}
    assert "exists again" in files.fault("restore", path="f")
    assert "Nothing in the trash was at none" in files.fault("restore", path="none")
    assert files.call("list_trash")["structuredContent"]["total"] == 1


def test_what_may_not_be_deleted(files: RawClient, folder: Path) -> None:
    (folder / "sub" / ".git").mkdir(parents=True)
    (folder / "corral.toml").touch()
    assert "stays where it is" in files.fault("delete", path=".")
    assert "protected" in files.fault("delete", path="corral.toml")
    assert ".git in it is protected" in files.fault("delete", path="sub")
    assert "protected" in files.fault("delete", path=".corral-trash")


def test_the_trash_stays_out_of_the_way(files: RawClient, folder: Path) -> None:
    (folder / "f").write_text("needle")
    files.text("delete", path="f")
    assert (folder / ".corral-trash" / ".gitignore").read_text() == "*\n"
    assert files.text("tree") == "(empty)"
    assert files.text("search_files", pattern="needle") == "No line matches."


def test_a_trash_that_was_tampered_with_leads_nowhere(
    files: RawClient, folder: Path, tmp_path: Path
) -> None:
    (folder / "f").write_text("mine")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / ".corral-trash").symlink_to(elsewhere)
    assert "not the folder" in files.fault("delete", path="f")
    assert not list(elsewhere.iterdir())
    (folder / ".corral-trash").unlink()
    forged = folder / ".corral-trash" / "x"
    forged.mkdir(parents=True)
    (forged / "item").write_text("forged")
    for info in (
        '{"path": "../up", "time": 1, "size": 1}',
        "[" * 9999,
        '{"path": "q", "time": NaN}',
    ):
        (forged / "info.json").write_text(info)
        files.call("list_trash")
    (forged / "info.json").write_text('{"path": "../up", "time": 1, "size": 1}')
    assert "leads out" in files.fault("restore", path="../up")
    assert not (tmp_path / "up").exists()


def test_the_trash_is_bounded_in_age_and_size(files: RawClient, folder: Path) -> None:
    for name in ("old", "large", "new"):
        (folder / name).write_text(name)
        files.text("delete", path=name)
    trash = folder / ".corral-trash"
    slots = {
        json.loads((slot / "info.json").read_text())["path"]: slot
        for slot in trash.iterdir()
        if slot.is_dir()
    }
    (slots["old"] / "info.json").write_text('{"path": "old", "time": 1, "size": 3}')
    large = {**json.loads((slots["large"] / "info.json").read_text()), "size": 1 << 31}
    (slots["large"] / "info.json").write_text(json.dumps(large))
    (folder / "last").touch()
    files.text("delete", path="last")
    left = files.call("list_trash")["structuredContent"]["items"]
    assert {item["path"] for item in left} == {"new", "last"}
