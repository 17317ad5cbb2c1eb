"""What the numeric libraries find in a session's environment."""

from __future__ import annotations

import os

FONTS = ".matplotlib"
"""Where in a folder of packages matplotlib's list of fonts lies, made when that was installed."""

_PLOT_FOLDER = "/tmp/.matplotlib"  # noqa: S108  # inside, where /tmp is private
_DEFAULTS = {
    # Plots are pictures, and nobody looks at a window.
    "MPLBACKEND": "Agg",
    "MPLCONFIGDIR": _PLOT_FOLDER,
    # One thread a library: threads count as processes, and a fork must find none.
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


def set_defaults() -> None:
    """Set what the environment does not say already, for this process and those it starts."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)


def copy_fonts(packages: str) -> None:
    """Give matplotlib its list of fonts, which takes seconds to make, in a folder it may write."""
    target = os.environ.get("MPLCONFIGDIR", "")
    source = f"{packages}/{FONTS}"
    if target != _PLOT_FOLDER or not os.path.isdir(source):  # noqa: PTH112  # no pathlib here
        return
    try:
        os.makedirs(target, exist_ok=True)  # noqa: PTH103  # no pathlib here
        for name in os.listdir(source):  # noqa: PTH208  # no pathlib here
            _copy(f"{source}/{name}", f"{target}/{name}")
    except OSError:
        return  # a full /tmp: matplotlib makes its own, slowly


def _copy(source: str, target: str) -> None:
    with open(source, "rb") as old, open(target, "xb") as new:  # noqa: PTH123  # no pathlib
        new.write(old.read())
