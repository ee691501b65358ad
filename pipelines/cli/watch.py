"""Shows a run until it ends: a live table in a terminal, lines in a pipe."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from pipelines.cli import graph
from pipelines.cli.graph import Task

FIRST_WAIT, LONGEST_WAIT = 0.2, 2.0
LOG_LINE_EVERY = 10.0
"""Seconds between looks at the run, at first and at most; between log lines of a task in a pipe."""

STYLES = {
    "RUNNING": "bold cyan",
    "SUCCEEDED": "green",
    graph.CACHED: "blue",
    "FAILED": "bold red",
    "CANCELLED": "yellow",
}


class View(Protocol):
    """Shows the tasks of a run."""

    def show(self, tasks: list[Task], logs: Mapping[str, str]) -> None:
        """Shows the present state.

        Args:
            tasks: all tasks of the run.
            logs: the latest log line by task.
        """


def watch(
    spec: Mapping[str, Any],
    fetch: Callable[[], dict[str, Any]],
    logs: Mapping[str, str],
    console: Console,
) -> dict[str, Any]:
    """Follows a run to its end.

    Args:
        spec: the compiled pipeline.
        fetch: gives the PipelineJob resource as it is now.
        logs: the latest log line by the task's name; changes while this runs.
        console: where to show it.

    Returns:
        The PipelineJob resource in its final state.
    """
    if not console.is_terminal:
        return _follow(spec, fetch, logs, Lines(console))
    with Live(console=console, refresh_per_second=8) as live:
        return _follow(spec, fetch, logs, Screen(live))


def _follow(
    spec: Mapping[str, Any], fetch: Callable[[], dict[str, Any]], logs: Mapping[str, str], view: View
) -> dict[str, Any]:
    wait = FIRST_WAIT
    while True:
        job = fetch()
        tasks = graph.tasks(spec, job)
        view.show(tasks, logs)
        if job.get("state") in graph.FINAL:
            return job
        time.sleep(wait)
        wait = min(wait * 1.3, LONGEST_WAIT)


class Screen:
    """A table that is redrawn in place."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, tasks: list[Task], logs: Mapping[str, str]) -> None:
        """Draws the table anew."""
        table = Table(box=None, pad_edge=False, expand=True)
        for title, ratio in (("task", None), ("state", None), ("time", None), ("latest", 1)):
            table.add_column(title, ratio=ratio, no_wrap=True, overflow="ellipsis")
        for task in tasks:
            line = task.error or logs.get(task.name, "")
            table.add_row(task.name, Text(word(task), STYLES.get(task.state, "dim")), clock(task), Text(line, "dim"))
        self._live.update(table, refresh=True)


class Lines:
    """A line for each change of a state, and now and then one from a log."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._states: dict[str, str] = {}
        self._shown: dict[str, tuple[float, str]] = {}

    def show(self, tasks: list[Task], logs: Mapping[str, str]) -> None:
        """Prints what has changed."""
        for task in tasks:
            if task.state not in (self._states.get(task.name), graph.WAITING):
                self._print(f"{task.name:<10} {word(task):<9} {clock(task):>6}")
            self._states[task.name] = task.state
            if task.state == "RUNNING":
                self._log(task, logs.get(task.name, ""))

    def _log(self, task: Task, line: str) -> None:
        at, last = self._shown.get(task.name, (0.0, ""))
        now = time.monotonic()
        if line and line != last and now - at >= LOG_LINE_EVERY:
            self._shown[task.name] = (now, line)
            self._print(f"{task.name:<10} {'':<9} {clock(task):>6}  {line}")

    def _print(self, line: str) -> None:
        self._console.print(line.rstrip(), markup=False, highlight=False, soft_wrap=True)


def word(task: Task) -> str:
    """A task's state in a word."""
    if task.cached:
        return "cached"
    return "waiting" if task.state == graph.WAITING else task.state.lower().replace("_", " ")


def clock(task: Task) -> str:
    """A task's time as `12 s` or `3:05`; empty before it is started."""
    if task.cached or not task.seconds:
        return ""
    whole = round(task.seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02}"
