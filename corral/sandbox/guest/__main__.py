"""Entry point when this file is run: ``python -I -S FILE MODULE [ARGUMENT …]``.

The file and not its folder, for which Python would import ``runpy`` first.
"""

from __future__ import annotations

import sys

if "corral" not in sys.modules:
    # Stand-ins for the packages around this folder: inside the sandbox they do not exist.
    here = __file__.rpartition("/")[0]
    for name in ("corral", "corral.sandbox", "corral.sandbox.guest"):
        package = type(sys)(name)
        package.__path__ = [here] if name.endswith("guest") else []
        sys.modules[name] = package

module = sys.argv[1]
if not module.isidentifier():
    sys.exit(f"{module!r} is not the name of a module")
sys.exit(__import__(f"corral.sandbox.guest.{module}", fromlist=["main"]).main(sys.argv[2:]))
