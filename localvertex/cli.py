"""The `localvertex` command: each subcommand says what to do next; an error is one line and exit code 2."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localvertex import daemon
from localvertex.home import Home
from localvertex.redirect import redirect_environment

_NOT_RUNNING = 1
_MISTAKE = 2


class CommandError(Exception):
    """A command that cannot be done; the message says what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments, those of the process by default.

    Returns:
        The exit code: 0; 1 when `status` finds no server; 2 after an error.
    """
    arguments = _parser().parse_args(argv)
    home = Home.find()
    if arguments.home:
        home = Home(arguments.home, project_id=home.project_id, location=home.location)
    try:
        code: int = arguments.run(home, arguments)
    except (CommandError, daemon.DaemonError) as error:
        print(f"error: {error}", file=sys.stderr)
        return _MISTAKE
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--home", type=Path, help="state folder (default: $LOCALVERTEX_HOME, else .localvertex here)")
    as_json = argparse.ArgumentParser(add_help=False)
    as_json.add_argument("--json", action="store_true", help="print JSON")
    parser = argparse.ArgumentParser(prog="localvertex", description="Vertex AI on localhost.")
    commands = parser.add_subparsers(metavar="command", required=True)

    def command(name: str, run: Any, text: str, *, json: bool = True) -> argparse.ArgumentParser:
        parents = [shared, as_json] if json else [shared]
        added = commands.add_parser(name, help=text, description=text, parents=parents)
        added.set_defaults(run=run)
        return added

    command("start", _start, "Start the server in the background, if it is not running.")
    command("stop", _stop, "End the server; unfinished runs go on with the next start.")
    command("status", _status, "Say whether the server runs, and where.")
    env = command("env", _env, 'Print the variables that point Google\'s clients here: eval "$(localvertex env)".')
    env.add_argument("--shell", action="store_true", help="print shell exports (the default)")
    runs = command("runs", _runs, "List pipeline runs, the newest first.")
    runs.add_argument("--limit", type=int, default=20, help="how many at most (default: 20)")
    runs.add_argument("--location", help="region (default: us-central1)")
    logs = command("logs", _logs, "Print what the tasks of a run, and the jobs they launched, have printed.")
    logs.add_argument("resource", metavar="RUN", help="id of a run or of a job")
    logs.add_argument("task", metavar="TASK", nargs="?", help="only this task")
    logs.add_argument("--tail", type=int, metavar="N", help="only the last N lines of each")
    logs.add_argument("--follow", action="store_true", help="go on printing until the run has ended")
    serve = command("serve", _serve, "Run the server in the foreground.", json=False)
    serve.add_argument("--port", type=int, default=0, help="of 127.0.0.1 (default: any free one)")
    return parser


def _start(home: Home, arguments: argparse.Namespace) -> int:
    running, fresh = daemon.start(home)
    if arguments.json:
        print(json.dumps({**_described(home, running), "started_now": fresh}))
    else:
        print(f"localvertex {'started' if fresh else 'is already running'} on 127.0.0.1:{running.port}")
        print('point this shell at it:  eval "$(localvertex env)"      end it:  localvertex stop')
    return 0


def _stop(home: Home, arguments: argparse.Namespace) -> int:
    stopped = daemon.stop(home)
    if arguments.json:
        print(json.dumps({"running": False, "stopped_now": stopped is not None}))
    else:
        print("localvertex stopped" if stopped else "localvertex was not running")
        print(f"its state stays in {home.path}      start it:  localvertex start")
    return 0


def _status(home: Home, arguments: argparse.Namespace) -> int:
    running = daemon.find(home)
    if arguments.json:
        print(json.dumps(_described(home, running)))
    elif running:
        minutes = (time.time() - running.started) / 60
        print(f"localvertex runs on 127.0.0.1:{running.port}, process {running.pid}, for {minutes:.0f} min")
        print(f"state: {home.path}      log: {home.server_log}")
        print('point this shell at it:  eval "$(localvertex env)"      end it:  localvertex stop')
    else:
        print(f"localvertex is not running for {home.path}\nstart it:  localvertex start")
    return 0 if running else _NOT_RUNNING


def _env(home: Home, arguments: argparse.Namespace) -> int:
    running = daemon.find(home)
    port = running.port if running else daemon.last_port(home)
    if port is None:
        raise CommandError(f"no server has run for {home.path} yet: start one with `localvertex start`")
    variables = redirect_environment(home, port)
    if arguments.json:
        print(json.dumps(variables))
        return 0
    for name, value in variables.items():
        print(f"export {name}={shlex.quote(value)}")
    if running is None:
        print("localvertex is not running: start it with `localvertex start`", file=sys.stderr)
    elif sys.stdout.isatty():
        print('set them in this shell:  eval "$(localvertex env)"', file=sys.stderr)
    return 0


def _runs(home: Home, arguments: argparse.Namespace) -> int:
    from localvertex.client import Client

    runs = Client(_running(home), home).pipeline_jobs(arguments.limit, arguments.location or home.location)
    if arguments.json:
        print(json.dumps(runs))
        return 0
    if not runs:
        print("no runs yet: submit one with google.cloud.aiplatform.PipelineJob(…).submit()")
        return 0
    width = max(len(run["id"]) for run in runs)
    for run in runs:
        print(f"{run['id']:<{width}}  {run['state']:<10}  {run['created'][:19]}  {run['display_name']}")
    print(f"what its tasks printed:  localvertex logs {runs[0]['id']}")
    return 0


def _logs(home: Home, arguments: argparse.Namespace) -> int:
    from localvertex import logs
    from localvertex.client import Client

    running = daemon.find(home)
    reader = logs.LogReader(home, arguments.resource, Client(running, home) if running else None)
    tasks = reader.tasks()
    if not tasks and not arguments.follow:
        raise CommandError(
            f"nothing has been logged for '{arguments.resource}' in {home.logs}: "
            "`localvertex runs` lists the ids of the runs"
        )
    if arguments.task and arguments.task not in tasks and not arguments.follow:
        raise CommandError(f"{arguments.resource} has no log of a task '{arguments.task}': it has {', '.join(tasks)}")
    lines = (
        reader.follow(arguments.task, arguments.tail)
        if arguments.follow
        else reader.read(arguments.task, arguments.tail)
    )
    for line in lines:
        print(json.dumps(vars(line)) if arguments.json else f"{line.source} | {line.text}", flush=True)
    if not arguments.json and not arguments.follow and sys.stdout.isatty():
        print(f"as it is written:  localvertex logs {arguments.resource} --follow", file=sys.stderr)
    return 0


def _serve(home: Home, arguments: argparse.Namespace) -> int:
    # Everything imported stays: collecting garbage meanwhile would only make the start slower.
    gc.disable()
    from localvertex.api import lazy_sdk

    lazy_sdk.install()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    from localvertex import server

    server.serve(home, arguments.port)
    return 0


def _running(home: Home) -> daemon.Running:
    running = daemon.find(home)
    if running is None:
        raise CommandError(f"no server is running for {home.path}: start it with `localvertex start`")
    return running


def _described(home: Home, running: daemon.Running | None) -> dict[str, Any]:
    described: dict[str, Any] = {"running": running is not None, "home": str(home.path)}
    return {**described, **vars(running)} if running else described
