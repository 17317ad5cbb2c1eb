"""``corral packages``: installed ahead, listed, removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.place import Place
from tests.tools.test_packages import wheel


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that takes the place of the package index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for tool in ("UV", "PIP"):
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(folder))
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
    wheel(folder, "shapes", "1.0", "SIDES = 4")
    return folder


@pytest.mark.usefixtures("index")
def test_packages_come_and_go(place: Place) -> None:
    empty = place.corral("packages", "list")
    assert (empty.code, empty.out) == (0, "")
    assert "No packages are installed" in empty.err
    done = place.corral("packages", "install", "Shapes==1.0")
    assert (done.code, done.out) == (0, "installed shapes 1.0\n"), done.err
    assert "Installing shapes==1.0" in done.err
    (layer,) = place.corral("packages", "list", "--json").lines
    assert layer["requested"] == ["shapes==1.0"]
    assert layer["installed"] == {"shapes": "1.0"}
    listed = place.corral("packages", "list")
    assert listed.out == f"{layer['layer']}  shapes 1.0\n"
    assert place.corral("packages", "remove", layer["layer"]).out == "removed shapes 1.0\n"
    gone = place.corral("packages", "remove", layer["layer"])
    assert gone.code == 2
    assert "There is no layer" in gone.err


@pytest.mark.usefixtures("index")
def test_what_cannot_be_installed_is_said(place: Place) -> None:
    wrong = place.corral("packages", "install", "--", "-rx")
    assert wrong.code == 2
    assert "no package that can be asked for" in wrong.err
    missing = place.corral("packages", "install", "nothing-like-it")
    assert missing.code == 1
    assert "could not be installed" in missing.err
