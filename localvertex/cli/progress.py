"""Shows a run until it ends: a line for each task that starts or ends and, in a terminal, what is under way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, Any

from rich.console import Console
from rich.status import Status
from rich.text import Text

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 1.0
_FINAL = frozenset({"PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED", "PIPELINE_STATE_CANCELLED"})
_WORDS = {"SKIPPED": "cached", "NOT_TRIGGERED": "not triggered"}
_STYLES = {"running": "cyan", "succeeded": "green", "cached": "blue", "failed": "bold red", "cancelled": "yellow"}


@dataclass(frozen=True)
class Task:
    """A task of a run that is executed: no DAG, no loop.

    Args:
        path: its place in the run, such as `for-loop-1/0/train`.
        state: in a word: `pending`, `running`, `succeeded`, `cached`, `failed`, `cancelled`, `not triggered`.
        seconds: since it was started, or how long it took; 0 before that.
        error: why it failed.
    """

    path: str
    state: str
    seconds: float
    error: str


def watch(fetch: Callable[[], dict[str, Any]], output: IO[str]) -> tuple[dict[str, Any], list[Task]]:
    """Follow a run to its end.

    Args:
        fetch: gives the PipelineJob in JSON, as it is now.
        output: where to show it.

    Returns:
        The PipelineJob and its tasks, in their final state.
    """
    console = Console(file=output)
    width, shown, wait = 0, dict[str, str](), _FIRST_WAIT
    with Status("", console=console) as status:
        while True:
            job = fetch()
            found = tasks(job)
            width = max([width, *(len(task.path) for task in found)])
            for task in found:
                if task.state not in (shown.get(task.path), "pending"):
                    _print(console, task, width)
                    wait = _FIRST_WAIT
                shown[task.path] = task.state
            if job.get("state") in _FINAL:
                return job, found
            status.update(", ".join(f"{task.path} {clock(task)}" for task in found if task.state == "running"))
            time.sleep(wait)
            wait = min(wait * 1.2, _LONGEST_WAIT)


def tasks(job: Mapping[str, Any]) -> list[Task]:
    """The tasks of a run that hold no others, in the order in which it met them."""
    details = {str(detail["taskId"]): detail for detail in job.get("jobDetail", {}).get("taskDetails", [])}
    holders = {str(detail.get("parentTaskId", "")) for detail in details.values()}
    return [
        Task(
            path=_path(details, id),
            state=_WORDS.get(detail["state"], detail["state"].lower()),
            seconds=_seconds(detail),
            error=" ".join(detail.get("error", {}).get("message", "").split()),
        )
        for id, detail in details.items()
        if id not in holders and "parentTaskId" in detail
    ]


def clock(task: Task) -> str:
    """A task's time as `1.2 s`, `12 s` or `3:05`; empty before it is started and when it was cached."""
    if task.state == "cached" or not task.seconds:
        return ""
    if task.seconds < 10:
        return f"{task.seconds:.1f} s"
    whole = round(task.seconds)
    return f"{whole} s" if whole < 60 else f"{whole // 60}:{whole % 60:02}"


def _path(details: Mapping[str, Mapping[str, Any]], id: str) -> str:
    segments: list[str] = []
    while "parentTaskId" in details[id]:
        parent = str(details[id]["parentTaskId"])
        # An iteration is named after its loop: `for-loop-1-0` is `for-loop-1/0`.
        name, of_loop = details[id]["taskName"], f"{details[parent]['taskName']}-"
        index = name.removeprefix(of_loop)
        segments.insert(0, index if name.startswith(of_loop) and index.isdigit() else name)
        id = parent
    return "/".join(segments)


def _seconds(detail: Mapping[str, Any]) -> float:
    if not detail.get("startTime"):
        return 0.0
    end = datetime.fromisoformat(detail["endTime"]) if detail.get("endTime") else datetime.now(UTC)
    return max(0.0, (end - datetime.fromisoformat(detail["startTime"])).total_seconds())


def _print(console: Console, task: Task, width: int) -> None:
    line = Text(f"{task.path:<{width}}  ")
    line.append(f"{task.state:<9}", _STYLES.get(task.state, "dim"))
    if task.state != "running":
        line.append(f"  {clock(task):>6}")
    line.rstrip()
    console.print(line, soft_wrap=True)
