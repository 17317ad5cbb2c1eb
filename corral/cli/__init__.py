"""The command line: the REPL, the commands and nothing that another floor could need."""
