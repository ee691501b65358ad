"""JobService: custom jobs, run as processes of this host; tuning jobs are answered by `tuning`."""

from __future__ import annotations

import logging
import math
import os
import shutil
import threading
import time
from typing import TYPE_CHECKING, TypeVar

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    BatchPredictionJob,
    CancelCustomJobRequest,
    CancelHyperparameterTuningJobRequest,
    CreateCustomJobRequest,
    CreateHyperparameterTuningJobRequest,
    CustomJob,
    DeleteCustomJobRequest,
    DeleteHyperparameterTuningJobRequest,
    DeleteOperationMetadata,
    GetCustomJobRequest,
    GetHyperparameterTuningJobRequest,
    HyperparameterTuningJob,
    JobState,
    ListCustomJobsRequest,
    ListCustomJobsResponse,
    ListHyperparameterTuningJobsRequest,
    ListHyperparameterTuningJobsResponse,
)
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.rpc import code_pb2, status_pb2

from localvertex import filters, labels, names
from localvertex.home import Home
from localvertex.services import workers
from localvertex.services.moments import seconds, stamp
from localvertex.services.operations import Operations
from localvertex.services.supervision import Order, Supervisor
from localvertex.store import Store, resources
from localvertex.workloads import Runner

if TYPE_CHECKING:
    from localvertex.services.tuning import TuningJobs

log = logging.getLogger(__name__)

FINISHED = frozenset({JobState.JOB_STATE_SUCCEEDED, JobState.JOB_STATE_FAILED, JobState.JOB_STATE_CANCELLED})
_DEFAULT_TIMEOUT = 7 * 24 * 3600.0
_MOST_RESTARTS = 3
_POLL_SECONDS = 0.05

Job = TypeVar("Job", BatchPredictionJob, CustomJob, HyperparameterTuningJob)


class CustomJobs:
    """Runs custom jobs; at most two a core at a time (but four at least), the rest wait in QUEUED.

    Args:
        store: where jobs are kept.
        home: for the folders of buckets and logs.
        runner: starts the replicas.
    """

    def __init__(self, store: Store, home: Home, runner: Runner) -> None:
        self._store = store
        self._home = home
        self._runner = runner
        self._places = threading.Semaphore(max(4, 2 * (os.cpu_count() or 1)))
        self._supervisor = Supervisor(self._run, self._fail)

    def create(self, parent: str, job: CustomJob, name: str = "") -> CustomJob:
        """Store a job and begin it.

        Args:
            name: the resource name, when it was decided on beforehand.

        Raises:
            google.api_core.exceptions.InvalidArgument: the job cannot run.
        """
        if not job.display_name:
            raise exceptions.InvalidArgument("custom_job.display_name is required.")
        workers.check(job.job_spec)
        accepted = CustomJob(
            name=name or f"{parent}/customJobs/{names.new_id()}",
            display_name=job.display_name,
            job_spec=job.job_spec,
            labels=job.labels,
            encryption_spec=job.encryption_spec,
            state=JobState.JOB_STATE_QUEUED,
        )
        self._store.create(accepted)
        if job.job_spec.enable_web_access:
            log.info("%s: enable_web_access is ignored, a local process needs no web shell", accepted.name)
        self._supervisor.start(accepted.name)
        return accepted

    def cancel(self, name: str) -> None:
        """Order a job to end; SIGTERM first, so that it can tidy up.

        Raises:
            google.api_core.exceptions.FailedPrecondition: it has ended.
        """
        self._store.update(CustomJob, name, begin_cancel)
        self._supervisor.cancel(name)

    def join(self, name: str) -> None:
        """Wait until a job that is under way has ended."""
        self._supervisor.join(name)

    def delete(self, name: str) -> None:
        """Forget a job that has ended, and its logs."""
        self.join(name)
        self._store.delete(CustomJob, name)
        shutil.rmtree(self._home.logs / names.id_of(name), ignore_errors=True)

    def resume(self) -> None:
        """Start again what was under way at a kill, as Vertex AI does when a machine is lost."""
        for job in unfinished(self._store, CustomJob):
            if job.state == JobState.JOB_STATE_CANCELLING:
                finish(self._store, CustomJob, job.name, JobState.JOB_STATE_CANCELLED)
            elif job.start_time and job.job_spec.scheduling.disable_retries:
                self._fail(job.name, "localvertex was stopped while the job ran, and its retries are disabled.")
            else:
                self._supervisor.start(job.name)

    def close(self) -> None:
        """End the processes of all jobs, which go on with the next `resume`."""
        self._supervisor.close()

    def _run(self, name: str, order: Order) -> None:
        job = self._store.get(CustomJob, name)
        longest_wait = seconds(job.job_spec.scheduling, "max_wait_duration") or math.inf
        while not self._places.acquire(blocking=False):
            if time.time() > seconds(job, "create_time") + longest_wait:
                self._fail(
                    name, f"The job waited for resources longer than {longest_wait:g} s.", code_pb2.RESOURCE_EXHAUSTED
                )
                return
            if order.wait(_POLL_SECONDS):
                break
        else:
            try:
                self._run_in_place(name, order)
            finally:
                self._places.release()
        if order.cancelled:
            finish(self._store, CustomJob, name, JobState.JOB_STATE_CANCELLED)

    def _run_in_place(self, name: str, order: Order) -> None:
        job = self._store.update(CustomJob, name, begin)
        timeout = seconds(job.job_spec.scheduling, "timeout") or _DEFAULT_TIMEOUT
        deadline = seconds(job, "start_time") + timeout
        logs = self._home.logs / names.id_of(name)
        scheduling = job.job_spec.scheduling
        retries = scheduling.restart_job_on_worker_restart and not scheduling.disable_retries
        attempts = 1 + _MOST_RESTARTS * retries
        for _ in range(attempts):
            outcome = workers.run(job, self._runner, gcs=self._home.gcs, logs=logs, order=order, deadline=deadline)
            if outcome.ending != workers.Ending.KILLED:
                break
        match outcome.ending:
            case workers.Ending.SUCCEEDED:
                finish(self._store, CustomJob, name, JobState.JOB_STATE_SUCCEEDED)
            case workers.Ending.FAILED | workers.Ending.KILLED:
                self._fail(name, outcome.reason, code_pb2.INVALID_ARGUMENT)
            case workers.Ending.TIMED_OUT:
                self._fail(name, f"The job exceeded its timeout of {timeout:g} s.", code_pb2.DEADLINE_EXCEEDED)

    def _fail(self, name: str, message: str, code: int = code_pb2.INTERNAL) -> None:
        error = status_pb2.Status(code=code, message=message)
        finish(self._store, CustomJob, name, JobState.JOB_STATE_FAILED, error)


class JobService:
    """google.cloud.aiplatform.v1.JobService, as far as custom and tuning jobs go.

    Args:
        store: where jobs are kept.
        operations: for deletions, which are long-running operations.
        custom: runs custom jobs.
        tuning: runs hyperparameter tuning jobs.
    """

    SERVICE = "google.cloud.aiplatform.v1.JobService"

    def __init__(self, store: Store, operations: Operations, custom: CustomJobs, tuning: TuningJobs) -> None:
        self._store = store
        self._operations = operations
        self._custom = custom
        self._tuning = tuning

    def resume(self) -> None:
        """Go on with the jobs that were under way when the server was killed."""
        self._custom.resume()
        self._tuning.resume()

    def close(self) -> None:
        """End the processes of all jobs, which go on with the next `resume`."""
        self._tuning.close()
        self._custom.close()

    def create_custom_job(self, request: CreateCustomJobRequest) -> CustomJob:
        """Begin a custom job."""
        labels.check(request.custom_job, "custom_job")
        return self._custom.create(request.parent, request.custom_job)

    def get_custom_job(self, request: GetCustomJobRequest) -> CustomJob:
        """A custom job as it is now."""
        return self._store.get(CustomJob, request.name)

    def list_custom_jobs(self, request: ListCustomJobsRequest) -> ListCustomJobsResponse:
        """Custom jobs of a location, newest first."""
        jobs, token = filters.listing(
            self._store, CustomJob, request.parent, request.filter, "", request.page_size, request.page_token
        )
        return ListCustomJobsResponse(custom_jobs=jobs, next_page_token=token)

    def cancel_custom_job(self, request: CancelCustomJobRequest) -> empty_pb2.Empty:
        """Begin to cancel a custom job."""
        self._custom.cancel(request.name)
        return empty_pb2.Empty()

    def delete_custom_job(self, request: DeleteCustomJobRequest) -> operations_pb2.Operation:
        """Delete a custom job that has ended."""
        must_have_finished(self._store.get(CustomJob, request.name))
        return self._operations.start(
            request.name, lambda: self._custom.delete(request.name), metadata=DeleteOperationMetadata()
        )

    def create_hyperparameter_tuning_job(
        self, request: CreateHyperparameterTuningJobRequest
    ) -> HyperparameterTuningJob:
        """Begin a tuning job."""
        return self._tuning.create(request.parent, request.hyperparameter_tuning_job)

    def get_hyperparameter_tuning_job(self, request: GetHyperparameterTuningJobRequest) -> HyperparameterTuningJob:
        """A tuning job with its trials as they are now."""
        return self._store.get(HyperparameterTuningJob, request.name)

    def list_hyperparameter_tuning_jobs(
        self, request: ListHyperparameterTuningJobsRequest
    ) -> ListHyperparameterTuningJobsResponse:
        """Tuning jobs of a location, newest first."""
        jobs, token = filters.listing(
            self._store,
            HyperparameterTuningJob,
            request.parent,
            request.filter,
            "",
            request.page_size,
            request.page_token,
        )
        return ListHyperparameterTuningJobsResponse(hyperparameter_tuning_jobs=jobs, next_page_token=token)

    def cancel_hyperparameter_tuning_job(self, request: CancelHyperparameterTuningJobRequest) -> empty_pb2.Empty:
        """Begin to cancel a tuning job and its trials."""
        self._tuning.cancel(request.name)
        return empty_pb2.Empty()

    def delete_hyperparameter_tuning_job(
        self, request: DeleteHyperparameterTuningJobRequest
    ) -> operations_pb2.Operation:
        """Delete a tuning job that has ended."""
        must_have_finished(self._store.get(HyperparameterTuningJob, request.name))
        return self._operations.start(
            request.name, lambda: self._tuning.delete(request.name), metadata=DeleteOperationMetadata()
        )


def unfinished(store: Store, kind: type[Job]) -> list[Job]:
    """The jobs of a kind that have not ended, oldest first."""
    return store.select(kind, resources.c.state.not_in([int(state) for state in FINISHED]))[::-1]


def must_have_finished(job: BatchPredictionJob | CustomJob | HyperparameterTuningJob) -> None:
    """Raises FailedPrecondition when the job is under way."""
    if job.state not in FINISHED:
        raise exceptions.FailedPrecondition(
            f"{job.name} is in state {JobState(job.state).name}; cancel it before deleting it."
        )


def begin(job: BatchPredictionJob | CustomJob | HyperparameterTuningJob) -> None:
    """A job that begins, or that begins again after its server was killed."""
    if job.state in (JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_PENDING):
        job.state = JobState(JobState.JOB_STATE_RUNNING)
    if not job.start_time:
        stamp(job, "start_time")


def begin_cancel(job: BatchPredictionJob | CustomJob | HyperparameterTuningJob) -> None:
    """A job that is to be cancelled; raises FailedPrecondition when it has ended."""
    if job.state in FINISHED:
        raise exceptions.FailedPrecondition(
            f"{job.name} is in state {JobState(job.state).name} and cannot be cancelled."
        )
    job.state = JobState(JobState.JOB_STATE_CANCELLING)


def finish(store: Store, kind: type[Job], name: str, state: int, error: status_pb2.Status | None = None) -> Job:
    """Record how a job ended."""
    if state == JobState.JOB_STATE_CANCELLED:
        error = status_pb2.Status(code=code_pb2.CANCELLED, message="CANCELED")

    def change(job: Job) -> None:
        job.state = JobState(state)
        stamp(job, "end_time")
        if error:
            job.error = error

    return store.update(kind, name, change)
