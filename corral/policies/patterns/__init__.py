"""Patterns of arguments that know their type: paths, URLs, commands, texts and numbers."""
