"""``python -m corral`` is the command ``corral``."""

from corral.cli.entry import main

main()
