"""``python -m corral`` is the command ``corral``."""

from corral.cli.main import main

main()
