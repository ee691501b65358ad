"""What the subcommands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from localvertex import daemon
from localvertex.home import Home

if TYPE_CHECKING:
    import argparse

    from localvertex.client import Client

DONE, NO, MISTAKE, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: NO when `status` finds no server and when a run has failed."""


class CommandError(Exception):
    """A command that cannot be done; the message says what to do."""


class AddCommand(Protocol):
    """Adds a subcommand to the parser and returns its own parser."""

    def __call__(
        self,
        name: str,
        run: Callable[[Home, argparse.Namespace], int],
        text: str,
        *,
        json: bool = True,
        details: str = "",
    ) -> argparse.ArgumentParser:
        """Add one.

        Args:
            run: carries it out and returns the exit code.
            text: what it does, in a sentence.
            json: whether it takes `--json`.
            details: more of it, for its own help.
        """


def running_server(home: Home) -> daemon.Running:
    """The server of a state folder.

    Raises:
        CommandError: none is running.
    """
    running = daemon.find(home)
    if running is None:
        raise CommandError(f"no server is running for {home.path}: start it with `localvertex start`")
    return running


def client(home: Home, location: str | None = None) -> Client:
    """A client of the running server.

    Args:
        location: as for localvertex.client.Client.

    Raises:
        CommandError: none is running.
    """
    from localvertex.client import Client

    return Client(running_server(home), home, location)


def add_location(parser: argparse.ArgumentParser, default: str = "all") -> None:
    """Add `--location`, for an argument that is None unless given."""
    parser.add_argument("--location", help=f"region (default: {default})")
