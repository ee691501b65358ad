"""`console`: opens the console in a browser."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from localvertex import daemon
from localvertex.cli.common import DONE, AddCommand
from localvertex.home import Home

if TYPE_CHECKING:
    import argparse


def add_commands(add: AddCommand) -> None:
    """Add the subcommand."""
    console = add(
        "console",
        _console,
        "Open the console in a browser; start the server if it is not running.",
        details="The printed link works once, within ten minutes; the browser that opened it stays let in for a week.",
    )
    console.add_argument("--no-browser", action="store_true", help="only print the link")


def _console(home: Home, arguments: argparse.Namespace) -> int:
    from localvertex.console.sessions import new_code

    running, fresh = daemon.start(home)
    url = f"http://127.0.0.1:{running.port}/console/?code={new_code(home)}"
    if arguments.json:
        print(json.dumps({"url": url, "started_now": fresh}))
        return DONE
    print(url)
    print("it works once; the next:  localvertex console")
    if not arguments.no_browser and sys.stdout.isatty():
        _open(url)
    return DONE


def _open(url: str) -> None:
    """Open a browser that has a window; one in the terminal would take the terminal over and cannot draw."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    import webbrowser

    webbrowser.open(url)
