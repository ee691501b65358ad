"""Shows tables and trees in a terminal, and in a pipe without cutting off what is in them."""

from __future__ import annotations

from rich.console import Console, RenderableType

WIDE = 400
"""Columns where there is no terminal to fit into: a line a row."""


def show(table: RenderableType) -> None:
    """Prints a table or a tree."""
    console = Console()
    (console if console.is_terminal else Console(width=WIDE)).print(table)
