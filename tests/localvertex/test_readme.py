"""Protects localvertex/README.md from going stale: its table of calls is the one of the handlers."""

from localvertex.api.table import README, with_table


def test_the_table_of_calls_is_that_of_the_handlers() -> None:
    text = README.read_text()
    assert with_table(text) == text, "write it anew: python -m localvertex.api.table"
