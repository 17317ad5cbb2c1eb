"""The profile for macOS, as text: it cannot be run here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from corral.errors import SandboxError
from corral.sandbox.backends.seatbelt import SeatbeltBackend, profile_text, ulimits
from corral.sandbox.contract import Grant, Limits, Profile
from corral.sandbox.network.rules import Network, NetworkRule


def lines_of(profile: Profile) -> list[str]:
    return profile_text(profile).splitlines()


def balanced(text: str) -> bool:
    depth, quoted, escaped = 0, False, False
    for letter in text:
        if quoted:
            quoted = escaped or letter != '"'
            escaped = letter == "\\" and not escaped
            continue
        quoted = letter == '"'
        depth += {"(": 1, ")": -1}.get(letter, 0)
        assert depth >= 0
    return depth == 0 and not quoted


def test_everything_is_denied_to_begin_with(tmp_path: Path) -> None:
    lines = lines_of(Profile())
    assert lines[:2] == ["(version 1)", "(deny default)"]
    assert not any("network" in line for line in lines)
    assert not any(line.startswith("(allow file-write*") for line in lines)
    assert str(tmp_path) not in "\n".join(lines)


def test_grants_can_be_read_and_only_writable_ones_written(tmp_path: Path) -> None:
    workspace, git = tmp_path / "workspace", tmp_path / "workspace" / ".git"
    git.mkdir(parents=True)
    lines = lines_of(Profile((Grant(git), Grant(workspace, writable=True)), workspace))
    write = f'(allow file-write* (subpath "{workspace}"))'
    keep = f'(deny file-write* (subpath "{git}"))'
    assert f'(allow file-read* (subpath "{workspace}"))' in lines
    # The later rule wins.
    assert lines.index(write) < lines.index(keep)
    assert f'(deny file-write-setugid (subpath "{workspace}"))' in lines


def test_what_is_hidden_is_denied_but_for_what_is_granted_in_it(tmp_path: Path) -> None:
    home, packages = tmp_path / "home", tmp_path / "home" / "packages"
    packages.mkdir(parents=True)
    lines = lines_of(Profile((Grant(packages), Grant(tmp_path, writable=True)), hidden=(home,)))
    rules = [
        f'(allow file-write* (subpath "{tmp_path}"))',
        f'(deny file-read* file-write* (subpath "{home}"))',
        f'(allow file-read* (subpath "{packages}"))',
    ]
    assert sorted(rules, key=lines.index) == rules  # the later rule wins


def test_only_the_proxy_can_be_reached(tmp_path: Path) -> None:
    network, socket = Network((NetworkRule("example.com"),)), tmp_path / "proxy.sock"
    lines = lines_of(Profile(network=network, proxy=socket))
    assert [line for line in lines if "network" in line] == [
        f'(allow network-outbound (literal "{socket}"))'
    ]
    with pytest.raises(SandboxError, match="no proxy"):
        profile_text(Profile(network=network))


@pytest.mark.parametrize("name", ['a"b', "a\\b", 'x") (allow default) ("', "(", "ü b"])
def test_a_name_cannot_leave_its_quotes(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    text = profile_text(Profile((Grant(folder, writable=True),), folder))
    assert balanced(text)
    assert not any(line.strip().startswith("(allow default)") for line in text.splitlines())


def test_limits_are_those_of_a_shell() -> None:
    limits = Limits(cpu_seconds=9, open_files=64, file_size=1024 * 1024)
    assert ulimits(limits) == "ulimit -c 0; ulimit -f 2048; ulimit -n 64; ulimit -t 9"


@pytest.mark.skipif(sys.platform == "darwin", reason="there it can be had")
def test_elsewhere_it_is_refused() -> None:
    with pytest.raises(SandboxError, match="needs macOS") as raised:
        SeatbeltBackend().launch(("/bin/true",), Profile())
    assert "bubblewrap" in raised.value.hint
