"""Shows what a task of a run has printed."""

from __future__ import annotations

from pipelines import settings
from pipelines.cli import targets
from pipelines.cli.targets import Target


def logs(target: Target, run: str, task: str, count: int) -> int:
    """Prints the last lines of a task's log, or where they are.

    Args:
        target: where the run was.
        run: its id.
        task: its path in the run, such as `exit-handler-1.train`.
        count: how many lines at most.
    """
    environment = settings.environment(target.settings)
    page = (
        f"https://console.cloud.google.com/vertex-ai/locations/{environment.location}"
        f"/pipelines/runs/{run}?project={environment.project}"
    )
    for line in targets.log_lines(target, run, task, count):
        print(line)
    print(f"all of it: {targets.log_hint(target, run, task, page)}")
    return 0
