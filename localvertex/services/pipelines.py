"""PipelineService: pipeline jobs are accepted, shown, cancelled and deleted here, and run by the engine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    BatchCancelPipelineJobsRequest,
    BatchCancelPipelineJobsResponse,
    BatchDeletePipelineJobsRequest,
    BatchDeletePipelineJobsResponse,
    CancelPipelineJobRequest,
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
from google.protobuf import empty_pb2, field_mask_pb2

from localvertex import filters, names
from localvertex.engine import Engine
from localvertex.engine.admission import admit, check_job_id
from localvertex.engine.runs import UNFINISHED
from localvertex.home import Home
from localvertex.services.operations import Operations
from localvertex.store import Store

_LARGEST_BATCH = 32


class PipelineService:
    """Pipeline jobs.

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
        job = request.pipeline_job
        if not job.runtime_config.gcs_output_directory:
            job.runtime_config.gcs_output_directory = str(dict(job.pipeline_spec or {}).get("defaultPipelineRoot", ""))
        pipeline = admit(job)
        job_id = request.pipeline_job_id or _generated_id(pipeline.name)
        check_job_id(job_id, pipeline.name)
        job.name = f"{request.parent}/pipelineJobs/{job_id}"
        job.display_name = job.display_name or job_id
        job.labels.setdefault("vertex-ai-pipelines-run-billing-id", names.new_id())
        job.state = PipelineState(PipelineState.PIPELINE_STATE_PENDING)
        for set_by_us in ("start_time", "end_time", "error"):
            setattr(job, set_by_us, None)
        with self._store.write():
            # The SDK looks the contexts up as soon as it has the answer.
            of_pipeline, of_run = self._engine.lineage.begin_run(job)
            job.job_detail = PipelineJobDetail(pipeline_context=of_pipeline, pipeline_run_context=of_run)
            created = self._store.create(job)
        self._engine.submit(PipelineJob.deserialize(PipelineJob.serialize(created)))
        return created

    def get_pipeline_job(self, request: GetPipelineJobRequest) -> PipelineJob:
        """A job, with its tasks as they are now."""
        return self._engine.detailed(self._store.get(PipelineJob, request.name))

    def list_pipeline_jobs(self, request: ListPipelineJobsRequest) -> ListPipelineJobsResponse:
        """Jobs of a location, newest first unless ordered otherwise."""
        jobs, token = filters.listing(
            self._store,
            PipelineJob,
            request.parent,
            request.filter,
            request.order_by,
            request.page_size,
            request.page_token,
        )
        wanted = {path.split(".")[0] for path in request.read_mask.paths}
        if not wanted or "job_detail" in wanted:
            jobs = [self._engine.detailed(job) for job in jobs]
        if wanted and "*" not in wanted:
            jobs = [_masked(job, wanted) for job in jobs]
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


def _generated_id(pipeline: str) -> str:
    """`<pipeline>-<timestamp>`, as the SDK makes it."""
    stem = re.sub(r"[^-a-z0-9]+", "-", pipeline.lower()).strip("-") or "pipeline"
    return f"{stem}-{datetime.now(UTC).strftime('%Y%m%d%H%M%S')}"


def _batch(requested: Sequence[str]) -> list[str]:
    if not requested or len(requested) > _LARGEST_BATCH:
        raise exceptions.InvalidArgument(f"names: name between 1 and {_LARGEST_BATCH} jobs, not {len(requested)}.")
    return list(dict.fromkeys(requested))


def _masked(job: PipelineJob, fields: set[str]) -> PipelineJob:
    """The job with nothing but these of its fields; what masks say about parts of them is not looked at."""
    masked = PipelineJob()
    known = {field.name for field in PipelineJob.pb(job).DESCRIPTOR.fields}
    mask = field_mask_pb2.FieldMask(paths=sorted(fields & known))
    mask.MergeMessage(PipelineJob.pb(job), PipelineJob.pb(masked))
    return masked
