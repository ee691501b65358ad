"""The command line: one module a step or a question."""
