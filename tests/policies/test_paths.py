"""Paths: what a pattern says is where a file lies, however its path is written and linked."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from corral.policies.facts import ToolCall
from corral.policies.guards import guard
from corral.policies.patterns.arguments import path_fits
from corral.policies.patterns.contents import stays_inside
from corral.policies.patterns.paths import (
    is_inside,
    matches_loosely,
    matches_strictly,
    path_values,
)

WORKSPACE = "/work/space"


def linked(**links: str) -> ToolCall:
    return ToolCall(
        "t__x", {}, read_only=False, sandboxed=True, workspace=WORKSPACE, links=dict(links)
    )


class TestLinks:
    def test_an_allow_needs_both_what_is_written_and_where_it_leads(self) -> None:
        inside = linked(**{"reports/a": f"{WORKSPACE}/reports/2026/a"})
        elsewhere = linked(**{"reports/a": f"{WORKSPACE}/private/a"})
        outside = linked(**{"reports/a": "/etc/passwd"})
        assert path_fits(("reports/**",), "reports/a", inside, loosens=True)
        assert not path_fits(("reports/**",), "reports/a", elsewhere, loosens=True)
        assert not path_fits(("private/**",), "reports/a", elsewhere, loosens=True)
        assert path_fits(("reports/**", "private/**"), "reports/a", elsewhere, loosens=True)
        assert not path_fits(("**", "/**"), "reports/a", outside, loosens=True)

    def test_a_deny_holds_for_either(self) -> None:
        call = linked(**{"reports/a": "/etc/passwd"})
        assert path_fits(("/etc/**",), "reports/a", call, loosens=False)
        assert path_fits(("reports/**",), "reports/a", call, loosens=False)
        assert not path_fits(("private/**",), "reports/a", call, loosens=False)

    @settings(deadline=None)
    @given(
        path=st.sampled_from(["reports/a", "x", "../y", "/etc/z"]),
        target=st.sampled_from([f"{WORKSPACE}/reports/b", f"{WORKSPACE}/c", "/etc/passwd"]),
        pattern=st.sampled_from(["reports/**", "**", "c", "/etc/**", "../**"]),
    )
    def test_a_link_never_widens_an_allow_nor_narrows_a_deny(
        self, path: str, target: str, pattern: str
    ) -> None:
        call = linked(**{path: target})
        if path_fits((pattern,), path, call, loosens=True):
            assert matches_strictly(pattern, path, WORKSPACE)
            assert matches_strictly(pattern, target, WORKSPACE)
        if matches_loosely(pattern, path, WORKSPACE) or matches_loosely(pattern, target, WORKSPACE):
            assert path_fits((pattern,), path, call, loosens=False)


class TestPatches:
    """A patch names its files inside; they are paths of the call like any others."""

    PATCH = "--- a/src/x.py\n+++ b/src/x.py\n@@ -1 +1 @@\n-a\n+b\n"

    def test_every_file_that_a_patch_names_is_a_path(self) -> None:
        more = "--- /dev/null\n+++ b/new\n@@ -0,0 +1 @@\n+x\n--- old\t2026\n+++ /dev/null\n"
        assert path_values({"patch": self.PATCH + more}) == ["src/x.py", "new", "old"]
        assert path_values({"unified_diff": self.PATCH.replace("\n", "\r\n")}) == ["src/x.py"]
        assert path_values({"content": self.PATCH}) == []
        nested = {"edits": [{"patch": self.PATCH}]}
        assert path_values(nested) == ["src/x.py"]

    def test_a_patch_of_what_is_protected_is_denied(self) -> None:
        for name in ("a/.git/hooks/x", "a/sub/corral.toml", "a/.g\u200dit/config"):
            other = "b" + name[1:]
            patch = self.PATCH + f"--- {name}\n+++ {other}\n@@ -1 +1 @@\n-a\n+b\n"
            call = ToolCall(
                "files__apply_patch",
                {"patch": patch},
                read_only=False,
                sandboxed=True,
                workspace=WORKSPACE,
            )
            decision = guard(call, ())
            assert decision is not None
            assert decision.action == "deny"
        harmless = {"patch": self.PATCH.replace("-a", "-see a/.git/config")}
        assert guard(replace(call, args=harmless), ()) is None

    def test_a_patch_that_leads_out_leaves_the_workspace(self) -> None:
        call = ToolCall(
            "files__apply_patch",
            {"patch": self.PATCH},
            read_only=False,
            sandboxed=True,
            workspace=WORKSPACE,
        )
        assert stays_inside(call)
        out = {"patch": self.PATCH.replace("/src/", "/../")}
        assert not stays_inside(replace(call, args=out))


class TestReadings:
    @pytest.mark.parametrize(
        "path",
        [
            "reports/%2e%2e/secret",
            "reports/..%2fsecret",
            "reports/%2E%2E%5Csecret",
            "reports/%252e%252e/secret",
            "reports/a%00.md",
            "\u00a0../secret",
            "reports/\u3000../secret",
            "reports/a\u00a0",
            "$HOME/x",
            "${HOME}/x",
            "~root/x",
            "reports/\u2028x",
            "reports/a\ud800",
            "reports/\uff0e\uff0e/secret",
            "reports/\u2025/secret",
            "reports/a\uff0fb",
        ],
    )
    def test_what_a_tool_may_read_otherwise_fits_no_allow(self, path: str) -> None:
        assert not matches_strictly("**", path, WORKSPACE)
        assert not is_inside(path, WORKSPACE)

    @pytest.mark.parametrize("path", ["routes/$id.tsx", "a%b", "100%", "a b/c", "é/ü"])
    def test_usual_names_stay_usable(self, path: str) -> None:
        assert matches_strictly("**", path, WORKSPACE)

    @pytest.mark.parametrize(
        ("pattern", "path"),
        [
            ("/etc/passwd", "file:///etc/%70asswd"),
            ("/etc/passwd", "/etc/%70asswd"),
            ("secrets/**", "x/%2e%2e/secrets/a"),
            ("secrets/**", "\u00a0secrets/a"),
            ("secrets/**", "secrets\u3000/a"),
        ],
    )
    def test_a_deny_sees_through_encodings(self, pattern: str, path: str) -> None:
        assert matches_loosely(pattern, path, WORKSPACE)


segments = st.lists(
    st.one_of(
        st.sampled_from(["..", ".", "", "reports", "Reports", "a", "...", "%2e%2e", "~", "$x"]),
        st.text(alphabet="aB.é /\\\0~\u200b\u00a0%2eﬁ", max_size=4),
    ),
    max_size=6,
).map("/".join)
starts = st.sampled_from(["", "/", "reports/", f"{WORKSPACE}/", "//", "./", "file://", "../"])
patterns = st.sampled_from(["reports/**", "**", "*.md", "reports/*", "/work/**", "a/b", "../x"])


@settings(deadline=None, max_examples=300)
@given(start=starts, path=segments, pattern=patterns)
def test_what_an_allow_lets_through_a_deny_of_the_same_catches(
    start: str, path: str, pattern: str
) -> None:
    if matches_strictly(pattern, start + path, WORKSPACE):
        assert matches_loosely(pattern, start + path, WORKSPACE)
        assert is_inside(start + path, WORKSPACE)


@settings(deadline=None, max_examples=300)
@given(path=segments, form=st.sampled_from(["NFC", "NFD", "NFKC", "NFKD"]))
def test_a_deny_does_not_depend_on_how_letters_are_composed(path: str, form: str) -> None:
    spelled = unicodedata.normalize(form, path)  # type: ignore[arg-type]  # a literal, sampled
    assert matches_loosely("reports/**", path, WORKSPACE) == matches_loosely(
        "reports/**", spelled, WORKSPACE
    )
