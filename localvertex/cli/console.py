"""`console`: opens the console, or the page of a run, in a browser."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

from localvertex import daemon
from localvertex.cli.common import DONE, AddCommand, CommandError, add_location, client
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
    console.add_argument("resource", metavar="RUN", nargs="?", help="id of a run whose page to open (default: home)")
    console.add_argument("--no-browser", action="store_true", help="only print the link")
    add_location(console)


def _console(home: Home, arguments: argparse.Namespace) -> int:
    from localvertex.console.sessions import new_code

    running, fresh = daemon.start(home)
    page = _page(home, arguments) if arguments.resource else ""
    url = f"http://127.0.0.1:{running.port}/console/{page}?code={new_code(home)}"
    if arguments.json:
        print(json.dumps({"url": url, "started_now": fresh}))
        return DONE
    print(url)
    print(f"it works once; the next:  localvertex console {arguments.resource or ''}".rstrip())
    if not arguments.no_browser and sys.stdout.isatty():
        _open(url)
    return DONE


def _page(home: Home, arguments: argparse.Namespace) -> str:
    from localvertex.client import ClientError

    try:
        return str(client(home, arguments.location).get(f"localvertex/v1/runs/{arguments.resource}")["name"])
    except ClientError:
        raise CommandError(f"there is no run '{arguments.resource}': `localvertex runs` lists them") from None


def _open(url: str) -> None:
    """Open a browser that has a window; one in the terminal would take the terminal over and cannot draw."""
    if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return
    import webbrowser

    webbrowser.open(url)
