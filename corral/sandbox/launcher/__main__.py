"""Entry point when this file is run as a program.

The file and not its folder, for which Python would import ``runpy`` first.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path

if "corral" not in sys.modules:
    # Stand-ins for the packages around this folder: their own code is not wanted here.
    here = Path(__file__).resolve().parent
    for name, folder in (("corral", here.parent.parent), ("corral.sandbox", here.parent)):
        package = types.ModuleType(name)
        package.__path__ = [str(folder)]
        sys.modules[name] = package

if sys.argv[1:] == ["--serve"]:
    from corral.sandbox.launcher.serve import main
else:
    from corral.sandbox.launcher.spawn import main

sys.exit(main())
