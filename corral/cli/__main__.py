"""``python -m corral.cli`` is ``corral``."""

from corral.cli.entry import main

main()
