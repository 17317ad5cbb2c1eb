"""``python -m corral.cli`` is ``corral``."""

from corral.cli.main import main

main()
