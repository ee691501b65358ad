"""Custom jobs, such as the trials of a tuning job: how each went, and what it printed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from google.cloud.aiplatform_v1.types import CancelCustomJobRequest, CustomJob, JobState

from localvertex import names
from localvertex.console.services import ConsoleServices
from localvertex.console.web import Answer, Page, Redirect, Route, Visit, address
from localvertex.services.jobs import FINISHED
from localvertex.services.moments import seconds
from localvertex.services.workers import last_lines, program

_PATH = "projects/{project}/locations/{location}/customJobs/{id}"
_LINES = 400


class JobPages:
    """The page of one job.

    Args:
        services: the jobs and their logs.
    """

    def __init__(self, services: ConsoleServices) -> None:
        self._store = services.store
        self._jobs = services.jobs
        self._logs = services.home.logs

    def routes(self) -> Sequence[Route]:
        """Its addresses."""
        return (Route("POST", f"{_PATH}:cancel", self._cancel), Route("GET", _PATH, self._show))

    def _show(self, visit: Visit) -> Answer:
        job = self._store.get(CustomJob, visit.name)
        return Page(
            "job.html",
            str(job.display_name) or names.id_of(visit.name),
            {
                "section": "tuning",
                "job": job,
                "state": JobState(job.state).name.removeprefix("JOB_STATE_"),
                "ended": job.state in FINISHED,
                "created": seconds(job, "create_time"),
                "seconds": seconds(job, "end_time") - seconds(job, "start_time") if "end_time" in job else None,
                "pools": [(pool, program(pool)) for pool in job.job_spec.worker_pool_specs if pool.replica_count],
                "logs": [(path.stem, last_lines(path, _LINES)) for path in self._log_files(visit.name)],
            },
            live=("summary", "logs"),
            ended=job.state in FINISHED,
        )

    def _log_files(self, name: str) -> list[Path]:
        return sorted((self._logs / names.id_of(name)).rglob("*.log"))

    def _cancel(self, visit: Visit) -> Answer:
        self._jobs.cancel_custom_job(CancelCustomJobRequest(name=visit.name))
        return Redirect(address(visit.name))
