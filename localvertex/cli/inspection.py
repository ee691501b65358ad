"""`runs`, `logs` and `explain`: what has happened, and why."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

from localvertex import daemon
from localvertex.cli.common import DONE, AddCommand, CommandError, add_location, client
from localvertex.home import Home

if TYPE_CHECKING:
    import argparse


def add_commands(add: AddCommand) -> None:
    """Add the subcommands."""
    runs = add("runs", _runs, "List pipeline runs, the newest first.")
    runs.add_argument("--limit", type=int, default=20, help="how many at most (default: 20)")
    add_location(runs)
    logs = add("logs", _logs, "Print what the tasks of a run, and the jobs they launched, have printed.")
    logs.add_argument("resource", metavar="RUN", help="id of a run or of a job")
    logs.add_argument("task", metavar="TASK", nargs="?", help="only this task")
    logs.add_argument("--tail", type=int, metavar="N", help="only the last N lines of each")
    logs.add_argument("--follow", action="store_true", help="go on printing until the run has ended")
    add_location(logs)
    explain = add(
        "explain",
        _explain,
        "Say why a task of a run was executed, or was answered from the cache.",
        details="It names what differs from the nearest earlier run of the task, the decisive difference first.",
    )
    explain.add_argument("resource", metavar="RUN", help="id of a run")
    explain.add_argument(
        "task", metavar="TASK", help="name of a task, or its path where names repeat: for-loop-1/0/train"
    )
    add_location(explain)


def _runs(home: Home, arguments: argparse.Namespace) -> int:
    runs = client(home, arguments.location).runs(arguments.limit)
    if arguments.json:
        print(json.dumps(runs))
        return DONE
    if not runs:
        print("no runs yet: submit one with `localvertex run PIPELINE.json`")
        return DONE
    width = max(len(run["id"]) for run in runs)
    for run in runs:
        print(f"{run['id']:<{width}}  {run['state']:<10}  {run['created'][:19]}  {run['display_name']}")
    print(f"what its tasks printed:  localvertex logs {runs[0]['id']}")
    return DONE


def _logs(home: Home, arguments: argparse.Namespace) -> int:
    from localvertex.logs import LogReader

    inspector = client(home, arguments.location) if daemon.find(home) else None
    reader = LogReader(home, arguments.resource, inspector)
    tasks = reader.tasks()
    # Files are named by the task's path in the run.
    task = arguments.task.replace("/", ".") if arguments.task else None
    if not tasks and not arguments.follow:
        raise CommandError(
            f"nothing has been logged for '{arguments.resource}' in {home.logs}: "
            "`localvertex runs` lists the ids of the runs"
        )
    if task and task not in tasks and not arguments.follow:
        raise CommandError(f"{arguments.resource} has no log of a task '{task}': it has {', '.join(tasks)}")
    lines = reader.follow(task, arguments.tail) if arguments.follow else reader.read(task, arguments.tail)
    for line in lines:
        print(json.dumps(vars(line)) if arguments.json else f"{line.source} | {line.text}", flush=True)
    if not arguments.json and not arguments.follow and sys.stdout.isatty():
        print(f"as it is written:  localvertex logs {arguments.resource} --follow", file=sys.stderr)
    return DONE


def _explain(home: Home, arguments: argparse.Namespace) -> int:
    explanation = client(home, arguments.location).explain(arguments.resource, arguments.task)
    if arguments.json:
        print(json.dumps(explanation))
        return DONE
    print(f"{explanation['task']}: {explanation['reason']}")
    for difference in explanation["differences"][1:]:
        print(f"  also: {difference['text']}")
    print(f"what it printed:  localvertex logs {arguments.resource} {explanation['task']}")
    return DONE
