"""Jobs: of a custom job, such as a trial, how it went and what it printed; of a batch prediction, how far it came."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from google.cloud.aiplatform_v1.types import (
    BatchPredictionJob,
    CancelBatchPredictionJobRequest,
    CancelCustomJobRequest,
    CustomJob,
    JobState,
)
from markupsafe import Markup

from localvertex import names
from localvertex.console.services import ConsoleServices
from localvertex.console.web import Answer, Page, Redirect, Route, Visit, address
from localvertex.services.jobs import FINISHED
from localvertex.services.moments import seconds
from localvertex.services.workers import last_lines, program

_PATH = "projects/{project}/locations/{location}/customJobs/{id}"
_BATCH = "projects/{project}/locations/{location}/batchPredictionJobs/{id}"
_LINES = 400


class JobPages:
    """The pages of single jobs.

    Args:
        services: the jobs and their logs.
    """

    def __init__(self, services: ConsoleServices) -> None:
        self._store = services.store
        self._jobs = services.jobs
        self._batches = services.batches
        self._logs = services.home.logs

    def routes(self) -> Sequence[Route]:
        """Its addresses."""
        return (
            Route("POST", f"{_PATH}:cancel", self._cancel),
            Route("GET", _PATH, self._show),
            Route("POST", f"{_BATCH}:cancel", self._cancel_batch),
            Route("GET", _BATCH, self._show_batch),
        )

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

    def _show_batch(self, visit: Visit) -> Answer:
        job = self._store.get(BatchPredictionJob, visit.name)
        return Page(
            "batch.html",
            str(job.display_name) or names.id_of(visit.name),
            {
                "section": "models",
                "job": job,
                "state": JobState(job.state).name.removeprefix("JOB_STATE_"),
                "ended": job.state in FINISHED,
                "created": seconds(job, "create_time"),
                "seconds": seconds(job, "end_time") - seconds(job, "start_time") if "end_time" in job else None,
                "facts": _facts(job),
            },
            live=("summary", "facts"),
            ended=job.state in FINISHED,
        )

    def _cancel_batch(self, visit: Visit) -> Answer:
        self._batches.cancel_batch_prediction_job(CancelBatchPredictionJobRequest(name=visit.name))
        return Redirect(address(visit.name))

    def _log_files(self, name: str) -> list[Path]:
        return sorted((self._logs / names.id_of(name)).rglob("*.log"))

    def _cancel(self, visit: Visit) -> Answer:
        self._jobs.cancel_custom_job(CancelCustomJobRequest(name=visit.name))
        return Redirect(address(visit.name))


def _facts(job: BatchPredictionJob) -> list[tuple[str, str]]:
    """What a batch prediction reads and writes, and how many instances have been answered."""
    stats = job.completion_stats
    sources = job.input_config.gcs_source.uris
    model, _, version = str(job.model).partition("@")
    link = Markup('<a href="{}">{}</a>').format(address(model), str(job.model)) if model else "its own"
    return [
        ("Model", link + (f", version {job.model_version_id}" if job.model_version_id and not version else "")),
        ("Instances", f"{', '.join(sources)} ({job.input_config.instances_format})"),
        ("Answers", str(job.output_info.gcs_output_directory or job.output_config.gcs_destination.output_uri_prefix)),
        ("Answered", str(stats.successful_count)),
        ("Failed", str(stats.failed_count)),
        *(("A failure", str(problem.message)) for problem in job.partial_failures[:10]),
    ]
