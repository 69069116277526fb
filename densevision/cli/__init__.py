"""The command line: a lazy click group over TASKS. Help loads no torch."""
