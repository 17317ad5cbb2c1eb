"""The REPL: a conversation in the terminal, with approvals in it."""
