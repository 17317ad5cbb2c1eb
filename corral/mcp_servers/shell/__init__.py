"""The ``shell`` server: commands, in the foreground and in the background."""
