"""PipelineService: pipeline jobs are accepted, shown, cancelled and deleted here, and run by the engine."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    BatchCancelPipelineJobsRequest,
    BatchCancelPipelineJobsResponse,
    BatchDeletePipelineJobsRequest,
    BatchDeletePipelineJobsResponse,
    CancelPipelineJobRequest,
    Context,
    CreatePipelineJobRequest,
    DeleteOperationMetadata,
    DeletePipelineJobRequest,
    GetPipelineJobRequest,
    ListPipelineJobsRequest,
    ListPipelineJobsResponse,
    PipelineJob,
    PipelineJobDetail,
    PipelineState,
)
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from localvertex import filters, names
from localvertex.engine import Engine
from localvertex.engine.admission import admit, check_job_id
from localvertex.engine.running import SCHEDULE_TIME, rfc3339
from localvertex.engine.runs import UNFINISHED
from localvertex.engine.spec import Pipeline
from localvertex.home import Home
from localvertex.services.masks import shown
from localvertex.services.operations import Operations
from localvertex.store import Store

_LARGEST_BATCH = 32


class PipelineService:
    """The part of google.cloud.aiplatform.v1.PipelineService that is about pipeline jobs.

    Args:
        store: where they are kept.
        home: whose log folders they have.
        operations: deletions are long-running.
        engine: runs them.
    """

    SERVICE = "google.cloud.aiplatform.v1.PipelineService"

    def __init__(self, store: Store, home: Home, operations: Operations, engine: Engine) -> None:
        self._store = store
        self._home = home
        self._engine = engine
        self._operations = operations

    def create_pipeline_job(self, request: CreatePipelineJobRequest) -> PipelineJob:
        """Accept a job and start it."""
        created = self.accept(request)
        self.start(created)
        return created

    def accept(self, request: CreatePipelineJobRequest, *, schedule: str = "", due: float | None = None) -> PipelineJob:
        """Store a job, to be started once that is committed.

        Args:
            schedule: resource name of the schedule whose run it is.
            due: when the schedule wanted it, in seconds since 1970.

        Raises:
            google.api_core.exceptions.InvalidArgument: it cannot run.
        """
        job, pipeline = request.pipeline_job, check(request)
        job_id = request.pipeline_job_id or self._generated_id(request.parent, pipeline.name, due)
        check_job_id(job_id)
        job.name = f"{request.parent}/pipelineJobs/{job_id}"
        self._engine.input_artifacts(job, pipeline)  # they must be there
        job.display_name = job.display_name or job_id
        job.labels["vertex-ai-pipelines-run-billing-id"] = names.new_id()
        job.state = PipelineState(PipelineState.PIPELINE_STATE_PENDING)
        job.schedule_name = schedule
        for set_by_us in ("start_time", "end_time", "error"):
            setattr(job, set_by_us, None)
        with self._store.write():
            # The SDK looks the contexts up as soon as it has the answer.
            of_pipeline, of_run = self._engine.lineage.begin_run(job)
            if due is not None:
                Context.pb(of_run).metadata.update({SCHEDULE_TIME: rfc3339(datetime.fromtimestamp(due, UTC))})
                self._store.save(of_run)
            job.job_detail = PipelineJobDetail(pipeline_context=of_pipeline, pipeline_run_context=of_run)
            return self._store.create(job)

    def start(self, job: PipelineJob) -> None:
        """Start an accepted job."""
        self._engine.submit(PipelineJob.deserialize(PipelineJob.serialize(job)))

    def get_pipeline_job(self, request: GetPipelineJobRequest) -> PipelineJob:
        """A job, with its tasks as they are now."""
        return self._engine.detailed(self._store.get(PipelineJob, request.name))

    def list_pipeline_jobs(self, request: ListPipelineJobsRequest) -> ListPipelineJobsResponse:
        """Jobs of a location, newest first unless ordered otherwise."""
        wanted = {path.split(".")[0] for path in request.read_mask.paths}
        light = bool(wanted) and not wanted & {"*", "job_detail", "pipeline_spec"}
        jobs, token = filters.listing(
            self._store,
            PipelineJob,
            request.parent,
            request.filter,
            request.order_by,
            request.page_size,
            request.page_token,
            page_bytes=sys.maxsize if light else filters.PAGE_BYTES,
        )
        if not wanted or "job_detail" in wanted:
            jobs = [self._engine.detailed(job) for job in jobs]
        jobs = [shown(job, request.read_mask.paths) for job in jobs]
        return ListPipelineJobsResponse(pipeline_jobs=jobs, next_page_token=token)

    def cancel_pipeline_job(self, request: CancelPipelineJobRequest) -> empty_pb2.Empty:
        """Begin to cancel a job; one that has ended stays as it is."""
        self._begin_cancel(request.name)
        return empty_pb2.Empty()

    def delete_pipeline_job(self, request: DeletePipelineJobRequest) -> operations_pb2.Operation:
        """Delete a job that has ended, with its logs; its outputs and lineage stay."""
        self._must_have_ended([request.name])
        return self._operations.start(
            request.name, lambda: self._delete([request.name]), metadata=DeleteOperationMetadata()
        )

    def batch_cancel_pipeline_jobs(self, request: BatchCancelPipelineJobsRequest) -> operations_pb2.Operation:
        """Cancel several jobs, and wait until they have ended."""
        requested = _batch(request.names)
        for name in requested:
            self._store.get(PipelineJob, name)

        def work() -> BatchCancelPipelineJobsResponse:
            for name in requested:
                self._begin_cancel(name)
            for name in requested:
                self._engine.join(name)
            return BatchCancelPipelineJobsResponse(
                pipeline_jobs=[self._store.get(PipelineJob, name) for name in requested]
            )

        return self._operations.start(requested[0], work)

    def batch_delete_pipeline_jobs(self, request: BatchDeletePipelineJobsRequest) -> operations_pb2.Operation:
        """Delete several jobs, all or none."""
        requested = _batch(request.names)
        jobs = self._must_have_ended(requested)

        def work() -> BatchDeletePipelineJobsResponse:
            self._delete(requested)
            return BatchDeletePipelineJobsResponse(pipeline_jobs=jobs)

        return self._operations.start(requested[0], work)

    def _generated_id(self, parent: str, pipeline: str, due: float | None) -> str:
        """`<pipeline>-<timestamp>`, as the SDK makes it, with more to it where that is taken."""
        stem = re.sub(r"[^-a-z0-9]+", "-", pipeline.lower()).strip("-") or "pipeline"
        moment = datetime.now(UTC) if due is None else datetime.fromtimestamp(due, UTC)
        generated = f"{stem}-{moment.strftime('%Y%m%d%H%M%S')}"
        taken = self._store.find(PipelineJob, f"{parent}/pipelineJobs/{generated}")
        return f"{generated}-{names.new_id()}" if taken else generated

    def _begin_cancel(self, name: str) -> None:
        def cancel(job: PipelineJob) -> None:
            if job.state in UNFINISHED:
                job.state = PipelineState(PipelineState.PIPELINE_STATE_CANCELLING)

        job = self._store.update(PipelineJob, name, cancel)
        if job.state == PipelineState.PIPELINE_STATE_CANCELLING:
            self._engine.cancel(name)

    def _must_have_ended(self, requested: Sequence[str]) -> list[PipelineJob]:
        jobs = [self._store.get(PipelineJob, name) for name in requested]
        for job in jobs:
            if job.state in UNFINISHED:
                raise exceptions.FailedPrecondition(
                    f"The PipelineJob {job.name} is in state {job.state.name}; "
                    "only jobs that have ended can be deleted. Cancel it first."
                )
        return jobs

    def _delete(self, requested: Sequence[str]) -> None:
        with self._store.write():
            for name in requested:
                self._store.delete(PipelineJob, name)
                self._engine.forget(name)
        for name in requested:
            shutil.rmtree(self._home.logs / names.id_of(name), ignore_errors=True)


def check(request: CreatePipelineJobRequest) -> Pipeline:
    """The pipeline of a job that can run; a pipeline root that the request leaves out is filled in from it.

    Raises:
        google.api_core.exceptions.InvalidArgument: it cannot run.
    """
    job = request.pipeline_job
    if not job.runtime_config.gcs_output_directory:
        job.runtime_config.gcs_output_directory = str(dict(job.pipeline_spec or {}).get("defaultPipelineRoot", ""))
    return admit(job)


def _batch(requested: Sequence[str]) -> list[str]:
    if not requested or len(requested) > _LARGEST_BATCH:
        raise exceptions.InvalidArgument(f"names: name between 1 and {_LARGEST_BATCH} jobs, not {len(requested)}.")
    return list(dict.fromkeys(requested))
