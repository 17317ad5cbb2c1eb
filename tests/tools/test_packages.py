"""Layers of packages: asked for, installed from wheels, found again, removed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from corral.errors import NotFoundError, ToolServerError, UsageError
from corral.sandbox.registry import select_backend
from corral.tools.builder import builtin_provider
from corral.tools.contract import CallOptions, ToolProvider, ToolResult
from corral.tools.packages import Layer, PackageStore, normal, permitted
from corral.tools.settings import BuiltinSettings, PythonSettings


def wheel(folder: Path, name: str, version: str, source: str, *needs: str) -> None:
    """A wheel of one module, as an index would have it."""
    info = f"{name}-{version}.dist-info"
    requires = "".join(f"Requires-Dist: {need}\n" for need in needs)
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},{digest(text)},{len(text)}\n" for path, text in files.items())
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)


def digest(text: str) -> str:
    found = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest())
    return "sha256=" + found.decode().rstrip("=")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that takes the place of the package index."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for tool in ("UV", "PIP"):
        monkeypatch.setenv(f"{tool}_FIND_LINKS", str(folder))
        monkeypatch.setenv(f"{tool}_NO_INDEX", "1")
    wheel(folder, "shapes", "1.0", "SIDES = 4")
    wheel(folder, "colours", "2.5", "import shapes\nRED = shapes.SIDES", "shapes")
    return folder


@pytest.fixture
def store(tmp_path: Path) -> PackageStore:
    return PackageStore(tmp_path / "home" / "packages")


async def install(store: PackageStore, *names: str) -> Layer:
    return await store.install(names, select_backend(), lambda _: None)


class TestRequests:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("numpy", "numpy"),
            ("Scikit_Learn", "scikit-learn"),
            (" numpy == 2.3.4 ", "numpy==2.3.4"),
            ("a.-_b==1!2.0+local", "a-b==1!2.0+local"),
        ],
    )
    def test_one_form(self, text: str, expected: str) -> None:
        assert normal(text) == expected

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "-r x",
            "--index-url=http://x",
            "numpy>=1",
            "numpy[all]",
            "../x",
            "x @ http://y",
            "a;b",
        ],
    )
    def test_what_is_none(self, text: str) -> None:
        with pytest.raises(UsageError, match="asked for"):
            normal(text)

    def test_only_what_is_allowed(self) -> None:
        allowed = ("numpy", "Pandas==2.0")
        assert permitted(["NumPy", "numpy==1.5", "pandas"], allowed) == (
            "numpy",
            "numpy==1.5",
            "pandas==2.0",
        )
        for refused in ("requests", "pandas==2.1", "numpy2"):
            with pytest.raises(UsageError, match=r"allowed: numpy, pandas==2\.0"):
                permitted([refused], allowed)


class TestLayers:
    async def test_one_is_installed_with_what_it_needs(
        self, store: PackageStore, index: Path
    ) -> None:
        said: list[str] = []
        layer = await store.install(["Colours"], select_backend(), said.append)
        assert layer.requested == ("colours",)
        assert dict(layer.installed) == {"colours": "2.5", "shapes": "1.0"}
        assert (layer.folder / "colours.py").exists()
        assert said[0] == "Installing colours …"
        assert store.layers() == [layer]

    async def test_it_is_found_again_without_the_index(
        self, store: PackageStore, index: Path
    ) -> None:
        both = await install(store, "colours", "shapes")
        for path in index.iterdir():
            path.unlink()
        assert await install(store, "shapes") == both
        assert store.find(["colours", "nothing"]) is None

    async def test_two_at_once_install_once(self, store: PackageStore, index: Path) -> None:
        other = PackageStore(store.home)
        one, two = await asyncio.gather(install(store, "shapes"), install(other, "shapes"))
        assert one == two
        assert len(store.layers()) == 1

    async def test_what_cannot_be_installed_leaves_nothing(
        self, store: PackageStore, index: Path
    ) -> None:
        with pytest.raises(ToolServerError, match="nothing-like-it could not be installed"):
            await install(store, "nothing-like-it")
        assert [path.name for path in store.home.iterdir()] == [".lock"]

    @pytest.mark.parametrize("installer", ["uv", "pip"])
    async def test_the_folder_that_corral_works_in_has_no_say(
        self,
        store: PackageStore,
        index: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        installer: str,
    ) -> None:
        """Code can write there: neither an index of its own, nor what Python would import."""
        work, evil, here = tmp_path / "work", tmp_path / "evil", tmp_path / "ran outside"
        for folder in (work, evil):
            folder.mkdir()
        wheel(evil, "shapes", "6.6", "SIDES = 666")
        (work / "uv.toml").write_text(f'find-links = ["{evil}"]\n')
        (work / "pip.py").write_text(f"open({str(here)!r}, 'w')\n")
        monkeypatch.chdir(work)
        if installer == "pip":
            monkeypatch.setattr("shutil.which", lambda *_: None)
            monkeypatch.setattr("importlib.util.find_spec", lambda *_: True)
        else:
            monkeypatch.delenv("UV_FIND_LINKS")
        with suppress(ToolServerError):  # there may be no pip here, and uv finds nothing
            await store.install(["shapes"], select_backend(), print)
        assert not here.exists()
        assert "6.6" not in str(store.layers())

    async def test_without_an_installer_it_says_what_to_do(
        self, store: PackageStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("shutil.which", lambda name: None)
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(ToolServerError, match="neither uv nor pip"):
            await install(store, "shapes")

    async def test_what_a_killed_installation_left_is_swept(
        self, store: PackageStore, index: Path
    ) -> None:
        (store.home / ".new-old").mkdir(parents=True)
        await install(store, "shapes")
        assert not (store.home / ".new-old").exists()

    async def test_a_damaged_one_is_no_layer_and_is_replaced(
        self, store: PackageStore, index: Path
    ) -> None:
        layer = await install(store, "shapes")
        (layer.folder / "layer.json").write_text("{")
        assert store.layers() == []
        assert await install(store, "shapes") == layer

    async def test_one_is_removed(self, store: PackageStore, index: Path) -> None:
        layer = await install(store, "shapes")
        await store.remove(layer.digest)
        assert store.layers() == []
        with pytest.raises(NotFoundError, match="no layer"):
            await store.remove(layer.digest)


class TestTheServer:
    def provider(self, store: PackageStore, folder: Path, **python: Any) -> ToolProvider:
        settings = BuiltinSettings(python=PythonSettings(**python), packages_home=store.home)
        return builtin_provider("python", select_backend(), folder, settings)

    async def call(self, provider: ToolProvider, tool: str, **args: Any) -> ToolResult:
        return await provider.call(tool, args, CallOptions("key"))

    async def test_a_model_installs_and_goes_on(
        self, store: PackageStore, index: Path, tmp_path: Path
    ) -> None:
        python = self.provider(store, tmp_path, allowed_packages=("colours",))
        try:
            await self.call(python, "run_code", code="kept = 1")
            done = await self.call(python, "install_packages", packages=["Colours"])
            assert done.structured == {"installed": {"colours": "2.5"}}, done.text
            done = await self.call(python, "run_code", code="import colours; kept, colours.RED")
            assert done.text.splitlines()[0] == "(1, 4)"  # what was installed may be named below
            refused = await self.call(python, "install_packages", packages=["shapes"])
            assert refused.is_error
            assert "The package shapes is not allowed here" in refused.text
            for wrong in ([], "colours", [3]):
                assert (await self.call(python, "install_packages", packages=wrong)).is_error
        finally:
            await python.aclose()

    async def test_the_packages_of_the_settings_are_there(
        self, store: PackageStore, index: Path, tmp_path: Path
    ) -> None:
        python = self.provider(store, tmp_path, packages=("shapes==1.0",))
        try:
            await python.list_tools()
            done = await self.call(python, "run_code", code="import shapes; shapes.SIDES")
            assert done.text == "4"
            code = "open(shapes.__file__, 'w')"
            assert "Read-only file system" in (await self.call(python, "run_code", code=code)).text
        finally:
            await python.aclose()


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_numpy_pandas_and_matplotlib(store: PackageStore, tmp_path: Path) -> None:
    """From the package index, under the default limits."""
    try:
        await install(store, "numpy", "pandas", "matplotlib")
    except ToolServerError as error:
        if "could not be reached" in error.hint:
            pytest.skip("there is no package index here")
        raise
    names = ("numpy", "pandas", "matplotlib")
    settings = BuiltinSettings(python=PythonSettings(packages=names), packages_home=store.home)
    work = tmp_path / "work"
    work.mkdir()
    python = builtin_provider("python", select_backend(), work, settings)
    try:
        for code, text in (
            ("import numpy as np; np.ones((300, 300)) @ np.ones((300, 300))", "300."),
            ("import pandas as pd; pd.DataFrame({'a': [1, 2], 'b': ['x', 'y']})", "| 1 | 2 | y |"),
            ("pd.DataFrame({'a': range(10**5)})", "[the first 50 of 100000 rows, 1 of 1 columns]"),
            ("import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()", "image/png"),
        ):
            done = await python.call("run_code", {"code": code}, CallOptions("key"))
            assert text in done.text, json.dumps(done.text)
            assert "Matplotlib" not in done.text
    finally:
        await python.aclose()
