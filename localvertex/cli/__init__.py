"""The `localvertex` command: each subcommand says what to do next; an error is one line and exit code 2."""

from localvertex.cli.main import main

__all__ = ["main"]
