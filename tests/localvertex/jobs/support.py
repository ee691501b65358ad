"""A job service on a real store and real processes, without front ends, and how to wait for what it does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from google.cloud.aiplatform_v1.types import (
    CreateCustomJobRequest,
    CreateHyperparameterTuningJobRequest,
    CustomJob,
    GetCustomJobRequest,
    GetHyperparameterTuningJobRequest,
    HyperparameterTuningJob,
)

from localvertex.buckets import Buckets
from localvertex.home import Home
from localvertex.services.jobs import FINISHED, CustomJobs, JobService
from localvertex.services.models import ModelService
from localvertex.services.operations import Operations
from localvertex.services.training import TrainingPipelineService
from localvertex.services.tuning import TuningJobs
from localvertex.store import Store
from localvertex.workloads.table import ImageTable
from tests.localvertex.runners import new_runner

PARENT = "projects/100000000001/locations/us-central1"
Seen = TypeVar("Seen")


def until(look: Callable[[], Seen], wanted: Callable[[Seen], bool] = bool) -> Seen:
    """Look again and again until what is seen is wanted; the test's own timeout ends a vain wait."""
    while not wanted(seen := look()):
        time.sleep(0.02)
    return seen


class Service:
    """A job service that can be ended and built anew on the same state, as a restarted server would."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.store = Store.at(home.database)
        self.runner = new_runner(home, ImageTable.load(home), {})
        operations = Operations(self.store)
        custom = CustomJobs(self.store, home, self.runner)
        self.jobs = JobService(self.store, operations, custom, TuningJobs(self.store, home, custom))
        self.models = ModelService(self.store, operations, Buckets(home, self.store))
        self.training = TrainingPipelineService(self.store, operations, custom, self.models)

    def mark(self) -> str:
        """A file that replicas can make and find again, as they see it."""
        folder = self.home.gcs.resolve() / "marks"
        folder.mkdir(exist_ok=True)
        return self.runner.path(folder / "mark", "example.test/job:1")

    def close(self) -> None:
        """End the jobs' processes, as a stop of localvertex does."""
        self.training.close()
        self.jobs.close()
        self.store.close()

    def custom(self, code: str, wait: bool = True, **spec: Any) -> CustomJob:
        """Create a custom job of one Python process, or of the pools in `spec`."""
        spec.setdefault("worker_pool_specs", [pool(code)])
        request = CreateCustomJobRequest(parent=PARENT, custom_job={"display_name": "test", "job_spec": spec})
        job = self.jobs.create_custom_job(request)
        return self.finished(job) if wait else job

    def finished(self, job: CustomJob) -> CustomJob:
        """The job once it has ended."""
        return until(lambda: self.get(job), lambda now: now.state in FINISHED)

    def get(self, job: CustomJob) -> CustomJob:
        """The job as it is now."""
        return self.jobs.get_custom_job(GetCustomJobRequest(name=job.name))

    def log(self, job: CustomJob, worker: str = "workerpool0-0") -> str:
        """What a worker printed."""
        file = self.home.logs / job.name.rsplit("/", 1)[1] / f"{worker}.log"
        return file.read_text() if file.exists() else ""

    def tune(
        self, code: str, parameters: list[dict[str, Any]], *, wait: bool = True, study: Any = None, **job: Any
    ) -> HyperparameterTuningJob:
        """Create a tuning job whose trials are one Python process each."""
        body = {
            "display_name": "search",
            "max_trial_count": 4,
            "parallel_trial_count": 2,
            "study_spec": {
                "metrics": [{"metric_id": "loss", "goal": "MINIMIZE"}],
                "parameters": parameters,
                **(study or {}),
            },
            "trial_job_spec": {"worker_pool_specs": [pool(code)]},
            **job,
        }
        request = CreateHyperparameterTuningJobRequest(parent=PARENT, hyperparameter_tuning_job=body)
        created = self.jobs.create_hyperparameter_tuning_job(request)
        return self.tuned(created) if wait else created

    def tuned(self, job: HyperparameterTuningJob) -> HyperparameterTuningJob:
        """The tuning job once it has ended."""
        return until(lambda: self.get_tuning(job), lambda now: now.state in FINISHED)

    def get_tuning(self, job: HyperparameterTuningJob) -> HyperparameterTuningJob:
        """The tuning job as it is now."""
        return self.jobs.get_hyperparameter_tuning_job(GetHyperparameterTuningJobRequest(name=job.name))


def pool(code: str, *args: str, replicas: int = 1, env: dict[str, str] | None = None) -> dict[str, Any]:
    """A worker pool whose container runs Python code."""
    return {
        "container_spec": {
            "image_uri": "example.test/job:1",
            "command": ["python", "-c", code],
            "args": list(args),
            "env": [{"name": name, "value": value} for name, value in (env or {}).items()],
        },
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": replicas,
    }
