"""Python packages for sandboxed sessions: ``install``, ``list`` and ``remove``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from corral.cli.context import current, wait
from corral.cli.inspection import JsonOption
from corral.cli.output import emit, note

if TYPE_CHECKING:
    from corral.tools.packages import Layer, PackageStore

app = typer.Typer(
    name="packages",
    help="The Python packages that sandboxed code may import.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command()
def install(
    names: Annotated[
        list[str], typer.Argument(metavar="PACKAGE...", help="Names, like pandas or numpy==2.3.4.")
    ],
    json: JsonOption = False,
) -> None:
    """Install packages ahead, as wheels, into a folder that sessions can only read."""
    from corral.sandbox.registry import select_backend

    backend = select_backend(current().settings().sandbox)
    layer = wait(_store().install(names, backend, note))
    if json:
        emit(layer.to_json())
    else:
        sys.stdout.write(f"installed {_listing(layer)}\n")


@app.command("list")
def list_(json: JsonOption = False) -> None:
    """List the installed layers and what is in them."""
    layers = _store().layers()
    for layer in layers:
        if json:
            emit(layer.to_json())
        else:
            sys.stdout.write(f"{layer.digest}  {_listing(layer)}\n")
    if not layers and not json:
        note("No packages are installed. Install some: corral packages install numpy")


@app.command()
def remove(
    layer: Annotated[str, typer.Argument(metavar="LAYER", help="Its name in `packages list`.")],
) -> None:
    """Remove a layer. Sessions that use it can no longer import from it."""
    gone = wait(_store().remove(layer))
    sys.stdout.write(f"removed {_listing(gone)}\n")


def _store() -> PackageStore:
    from corral.tools.packages import PackageStore

    home = current().settings().builtin.packages_home
    assert home is not None
    return PackageStore(home)


def _listing(layer: Layer) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(layer.installed.items()))
