"""The virtual environment of the peers, which may want other versions than the project has."""

from __future__ import annotations

import shutil
import subprocess
import tomllib
from pathlib import Path

from platformdirs import user_cache_path

from bench._overhead_sides import PACKAGES

PROJECT = Path(__file__).parent.parent
GROUP = "bench-overhead"


def peers(*, install: bool) -> dict[str, str]:
    """The Python of each peer that could be installed, by its name.

    They share one environment in the user's cache, which is made if it is not there. A package that
    cannot be installed leaves its peer out.
    """
    folder = user_cache_path("corral") / GROUP
    python = folder / "bin" / "python"
    if install and shutil.which("uv"):
        print(f"peers: uv installs the dependency group {GROUP} into {folder}", flush=True)
        if not python.exists():
            _uv("venv", "--python", "3.11", str(folder))
        wanted = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
        for requirement in wanted["dependency-groups"][GROUP]:
            _uv("pip", "install", "--python", str(python), requirement)
    return {name: str(python) for name, package in PACKAGES.items() if _has(python, package)}


def _uv(*arguments: str) -> None:
    done = subprocess.run(["uv", "--quiet", *arguments], check=False)
    if done.returncode:
        print(f"uv {' '.join(arguments)} ended with {done.returncode}", flush=True)


def _has(python: Path, package: str) -> bool:
    code = f"import importlib.metadata as m; print({package!r}, m.version({package!r}))"
    if not python.exists():
        return False
    done = subprocess.run([str(python), "-c", code], check=False, capture_output=True, text=True)
    print(done.stdout.strip() or f"{package} is missing", flush=True)
    return done.returncode == 0
