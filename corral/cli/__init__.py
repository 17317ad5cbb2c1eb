"""The command ``corral``: the REPL and the commands."""
