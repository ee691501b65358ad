"""`start`, `stop`, `status`, `env`, `reset` and `serve`: the server and its state folder."""

from __future__ import annotations

import gc
import json
import logging
import os
import shlex
import sys
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from localvertex import daemon
from localvertex.cli.common import DONE, NO, AddCommand, CommandError
from localvertex.home import Home
from localvertex.redirect import redirect_environment

if TYPE_CHECKING:
    import argparse


def add_commands(add: AddCommand) -> None:
    """Add the subcommands."""
    add("start", _start, "Start the server in the background, if it is not running.")
    add("stop", _stop, "End the server; unfinished runs go on with the next start.")
    add("status", _status, "Say whether the server runs, and where.")
    env = add("env", _env, 'Print the variables that point Google\'s clients here: eval "$(localvertex env)".')
    env.add_argument("--shell", action="store_true", help="print shell exports (the default)")
    reset = add(
        "reset",
        _reset,
        "End the server and delete its state folder: runs, models, endpoints, buckets, keys.",
        details="It says first what goes, and asks.",
    )
    reset.add_argument("--yes", action="store_true", help="do not ask")
    serve = add("serve", _serve, "Run the server in the foreground.", json=False)
    serve.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (default: any free one)")


def _start(home: Home, arguments: argparse.Namespace) -> int:
    running, fresh = daemon.start(home)
    if arguments.json:
        print(json.dumps({**_described(home, running), "started_now": fresh}))
    else:
        print(f"localvertex {'started' if fresh else 'is already running'} on 127.0.0.1:{running.port}")
        print('point this shell at it:  eval "$(localvertex env)"      end it:  localvertex stop')
    return DONE


def _stop(home: Home, arguments: argparse.Namespace) -> int:
    stopped = daemon.stop(home)
    if arguments.json:
        print(json.dumps({"running": False, "stopped_now": stopped is not None}))
    else:
        print("localvertex stopped" if stopped else "localvertex was not running")
        print(f"its state stays in {home.path}      start it:  localvertex start")
    return DONE


def _status(home: Home, arguments: argparse.Namespace) -> int:
    running = daemon.find(home)
    if arguments.json:
        print(json.dumps(_described(home, running)))
    elif running:
        minutes = (time.time() - running.started) / 60
        print(f"localvertex runs on 127.0.0.1:{running.port}, process {running.pid}, for {minutes:.0f} min")
        print(f"state: {home.path}      log: {home.server_log}")
        if not home.store_url.startswith("sqlite:"):
            print(f"database: {home.shown_store_url}")
        print('point this shell at it:  eval "$(localvertex env)"      end it:  localvertex stop')
    else:
        print(f"localvertex is not running for {home.path}\nstart it:  localvertex start")
    return DONE if running else NO


def _env(home: Home, arguments: argparse.Namespace) -> int:
    running = daemon.find(home)
    port = running.port if running else daemon.last_port(home)
    if port is None:
        raise CommandError(f"no server has run for {home.path} yet: start one with `localvertex start`")
    variables = redirect_environment(home, port)
    if arguments.json:
        print(json.dumps(variables))
        return DONE
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    if running is None:
        print("localvertex is not running: start it with `localvertex start`", file=sys.stderr)
    elif sys.stdout.isatty():
        print('set them in this shell:  eval "$(localvertex env)"', file=sys.stderr)
    return DONE


def _reset(home: Home, arguments: argparse.Namespace) -> int:
    contents = home.contents() if home.path.exists() else {}
    if contents:
        daemon.check_resettable(home)
        if not arguments.yes and not _sure(home, contents, arguments.json):
            print("nothing was deleted")
            return NO
        daemon.reset(home)
    if arguments.json:
        print(json.dumps({"home": str(home.path), "deleted": sorted(contents)}))
    else:
        print(f"deleted {home.path}: {', '.join(contents)}" if contents else f"there is no state in {home.path}")
        print("begin anew:  localvertex start")
    return DONE


def _sure(home: Home, contents: Mapping[str, str], as_json: bool) -> bool:
    if as_json or not sys.stdin.isatty():
        raise CommandError(f"reset deletes {home.path}: say that you mean it with --yes")
    print(f"This ends the server and deletes {home.path} for good:")
    for name, text in contents.items():
        print(f"  {name:<16}  {text}")
    if not home.store_url.startswith("sqlite:"):
        print(f"  and the schema localvertex in {home.shown_store_url}")
    return input("Go on? [y/N] ").strip().lower() in ("y", "yes")


def _serve(home: Home, arguments: argparse.Namespace) -> int:
    # Everything imported stays: collecting garbage meanwhile would only make the start slower.
    gc.disable()
    from localvertex.api import lazy_sdk

    lazy_sdk.install()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if os.environ.get("LOCALVERTEX_DEBUG"):
        logging.getLogger("localvertex").setLevel(logging.DEBUG)
    from localvertex.server import serve

    serve(home, arguments.port)
    return DONE


def _described(home: Home, running: daemon.Running | None) -> dict[str, Any]:
    described: dict[str, Any] = {
        "running": running is not None,
        "home": str(home.path),
        "database": home.shown_store_url,
    }
    return {**described, **vars(running)} if running else described
