"""Training pipelines: a custom job and, once it has succeeded, the upload of the model that it has left."""

from __future__ import annotations

from typing import Any

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    CancelTrainingPipelineRequest,
    CreateTrainingPipelineRequest,
    CustomJob,
    CustomJobSpec,
    DeleteOperationMetadata,
    DeleteTrainingPipelineRequest,
    GetTrainingPipelineRequest,
    JobState,
    ListTrainingPipelinesRequest,
    ListTrainingPipelinesResponse,
    Model,
    PipelineState,
    TrainingPipeline,
    UploadModelRequest,
)
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, json_format
from google.rpc import code_pb2, status_pb2

from localvertex import filters, labels, names
from localvertex.services import workers
from localvertex.services.jobs import FINISHED, CustomJobs
from localvertex.services.masks import shown
from localvertex.services.models import ModelService
from localvertex.services.moments import stamp
from localvertex.services.operations import Operations
from localvertex.services.supervision import Order, Supervisor
from localvertex.store import Store, resources

_CUSTOM_TASK = "gs://google-cloud-aiplatform/schema/trainingjob/definition/custom_task_1.0.0.yaml"
_BACKING_JOB = "backingCustomJob"
_POLL_SECONDS = 0.05
_ENDED = frozenset(
    {
        PipelineState.PIPELINE_STATE_SUCCEEDED,
        PipelineState.PIPELINE_STATE_FAILED,
        PipelineState.PIPELINE_STATE_CANCELLED,
    }
)


class TrainingPipelineService:
    """The part of google.cloud.aiplatform.v1.PipelineService that is about training pipelines.

    Source: https://cloud.google.com/vertex-ai/docs/training/create-training-pipeline

    Args:
        store: where they are kept.
        operations: deletions are long-running.
        custom: runs their jobs.
        models: the registry that takes their models.
    """

    SERVICE = "google.cloud.aiplatform.v1.PipelineService"

    def __init__(self, store: Store, operations: Operations, custom: CustomJobs, models: ModelService) -> None:
        self._store = store
        self._operations = operations
        self._custom = custom
        self._models = models
        self._supervisor = Supervisor(self._run, self._fail)

    def create_training_pipeline(self, request: CreateTrainingPipelineRequest) -> TrainingPipeline:
        """Begin a training pipeline."""
        parent, pipeline = request.parent, request.training_pipeline
        _check(pipeline)
        accepted = TrainingPipeline(
            name=f"{parent}/trainingPipelines/{names.new_id()}",
            display_name=pipeline.display_name,
            training_task_definition=pipeline.training_task_definition,
            training_task_inputs=pipeline.training_task_inputs,
            training_task_metadata={_BACKING_JOB: f"{parent}/customJobs/{names.new_id()}"},
            model_id=pipeline.model_id,
            parent_model=pipeline.parent_model,
            labels=pipeline.labels,
            encryption_spec=pipeline.encryption_spec,
            state=PipelineState.PIPELINE_STATE_PENDING,
        )
        if "model_to_upload" in pipeline:
            accepted.model_to_upload = pipeline.model_to_upload
            self._models.destination(_upload(accepted))
        self._store.create(accepted)
        self._supervisor.start(accepted.name)
        return accepted

    def get_training_pipeline(self, request: GetTrainingPipelineRequest) -> TrainingPipeline:
        """A training pipeline as it is now."""
        return self._store.get(TrainingPipeline, request.name)

    def list_training_pipelines(self, request: ListTrainingPipelinesRequest) -> ListTrainingPipelinesResponse:
        """Training pipelines of a location, newest first."""
        found, token = filters.listing(
            self._store,
            TrainingPipeline,
            request.parent,
            request.filter,
            "",
            request.page_size,
            request.page_token,
        )
        found = [shown(each, request.read_mask.paths) for each in found]
        return ListTrainingPipelinesResponse(training_pipelines=found, next_page_token=token)

    def cancel_training_pipeline(self, request: CancelTrainingPipelineRequest) -> empty_pb2.Empty:
        """Begin to cancel a training pipeline and its job; one that has ended stays as it is."""

        def change(pipeline: TrainingPipeline) -> None:
            if pipeline.state not in _ENDED:
                pipeline.state = PipelineState(PipelineState.PIPELINE_STATE_CANCELLING)

        self._store.update(TrainingPipeline, request.name, change)
        self._supervisor.cancel(request.name)
        return empty_pb2.Empty()

    def delete_training_pipeline(self, request: DeleteTrainingPipelineRequest) -> operations_pb2.Operation:
        """Delete a training pipeline that has ended; its job and its model stay."""
        pipeline = self._store.get(TrainingPipeline, request.name)
        if pipeline.state not in _ENDED:
            raise exceptions.FailedPrecondition(
                f"The TrainingPipeline {pipeline.name} is in state {PipelineState(pipeline.state).name}; "
                "only one that has ended can be deleted. Cancel it first."
            )

        def work() -> None:
            self._supervisor.join(request.name)
            self._store.delete(TrainingPipeline, request.name)

        return self._operations.start(request.name, work, metadata=DeleteOperationMetadata())

    def resume(self) -> None:
        """Go on with what was under way when the server was killed."""
        unended = resources.c.state.not_in([int(state) for state in _ENDED])
        for pipeline in reversed(self._store.select(TrainingPipeline, unended)):
            self._supervisor.start(pipeline.name)
            if pipeline.state == PipelineState.PIPELINE_STATE_CANCELLING:
                self._supervisor.cancel(pipeline.name)

    def close(self) -> None:
        """Stop following the jobs; training pipelines go on with the next `resume`."""
        self._supervisor.close()

    def _run(self, name: str, order: Order) -> None:
        pipeline = self._store.update(TrainingPipeline, name, _begin)
        metadata: Any = pipeline.training_task_metadata
        backing = str(metadata[_BACKING_JOB])
        if self._store.find(CustomJob, backing) is None and not order.stopped:
            self._custom.create(names.location_parent(name), _custom_job(pipeline), backing)
        while (job := self._store.find(CustomJob, backing)) and job.state not in FINISHED:
            if order.wait(_POLL_SECONDS):
                if not order.cancelled:
                    return
                self._end_job(backing)
                break
        if order.cancelled:
            self._finish(name, PipelineState.PIPELINE_STATE_CANCELLED)
        elif job is None or job.state == JobState.JOB_STATE_CANCELLED:
            self._fail(name, f"The custom job {backing} was cancelled.", code_pb2.CANCELLED)
        elif job.state == JobState.JOB_STATE_FAILED:
            self._finish(name, PipelineState.PIPELINE_STATE_FAILED, job.error)
        else:
            self._succeed(name)

    def _end_job(self, backing: str) -> None:
        try:
            self._custom.cancel(backing)
        except exceptions.FailedPrecondition:
            return  # it has just ended by itself
        self._custom.join(backing)

    def _succeed(self, name: str) -> None:
        # One transaction: after a kill the model is there along with the success, or neither is.
        with self._store.write():
            pipeline = self._store.get(TrainingPipeline, name)
            if "model_to_upload" in pipeline:
                request = _upload(pipeline)
                uploaded = self._models.add(self._models.destination(request), request.model)

                def change(stored: TrainingPipeline) -> None:
                    stored.model_to_upload = uploaded

                self._store.update(TrainingPipeline, name, change)
            self._finish(name, PipelineState.PIPELINE_STATE_SUCCEEDED)

    def _fail(self, name: str, message: str, code: int = code_pb2.INTERNAL) -> None:
        self._finish(name, PipelineState.PIPELINE_STATE_FAILED, status_pb2.Status(code=code, message=message))

    def _finish(self, name: str, state: int, error: status_pb2.Status | None = None) -> None:
        def change(pipeline: TrainingPipeline) -> None:
            pipeline.state = PipelineState(state)
            stamp(pipeline, "end_time")
            if error:
                pipeline.error = error

        self._store.update(TrainingPipeline, name, change)


def _begin(pipeline: TrainingPipeline) -> None:
    if pipeline.state == PipelineState.PIPELINE_STATE_PENDING:
        pipeline.state = PipelineState(PipelineState.PIPELINE_STATE_RUNNING)
    if not pipeline.start_time:
        stamp(pipeline, "start_time")


def _check(pipeline: TrainingPipeline) -> None:
    if not pipeline.display_name:
        raise exceptions.InvalidArgument("training_pipeline.display_name is required.")
    labels.check(pipeline, "training_pipeline")
    if pipeline.training_task_definition != _CUSTOM_TASK:
        raise exceptions.MethodNotImplemented(
            f"training_pipeline.training_task_definition {pipeline.training_task_definition!r} is not supported by "
            f"localvertex, which runs custom tasks only: {_CUSTOM_TASK}."
        )
    if "input_data_config" in pipeline:
        raise exceptions.MethodNotImplemented(
            "training_pipeline.input_data_config is not supported by localvertex, which has no managed datasets."
        )
    spec = _job_spec(pipeline)
    workers.check(spec, "training_task_inputs")
    if "model_to_upload" in pipeline and not spec.base_output_directory.output_uri_prefix:
        raise exceptions.InvalidArgument("training_task_inputs.base_output_directory is required to upload a model.")


def _custom_job(pipeline: TrainingPipeline) -> CustomJob:
    return CustomJob(
        display_name=f"{pipeline.display_name}-custom-job",
        job_spec=_job_spec(pipeline),
        labels=pipeline.labels,
        encryption_spec=pipeline.encryption_spec,
    )


def _job_spec(pipeline: TrainingPipeline) -> CustomJobSpec:
    """The custom job that the task's inputs describe; they may be spelt as in JSON or as in Python."""
    inputs: Any = json_format.MessageToDict(TrainingPipeline.pb(pipeline).training_task_inputs)
    spec = CustomJobSpec()
    try:
        json_format.ParseDict(inputs, CustomJobSpec.pb(spec))
    except json_format.ParseError as error:
        raise exceptions.InvalidArgument(f"training_task_inputs is no custom job: {error}") from None
    return spec


def _upload(pipeline: TrainingPipeline) -> UploadModelRequest:
    model = Model(pipeline.model_to_upload)
    model.training_pipeline = pipeline.name
    output = _job_spec(pipeline).base_output_directory.output_uri_prefix.rstrip("/")
    model.artifact_uri = model.artifact_uri or f"{output}/model"
    return UploadModelRequest(
        parent=names.location_parent(pipeline.name),
        parent_model=pipeline.parent_model,
        model_id=pipeline.model_id,
        model=model,
    )
