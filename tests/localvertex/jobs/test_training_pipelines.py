"""Protects training pipelines: a model for a job that succeeded, once, whatever happens in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    CancelTrainingPipelineRequest,
    CreateTrainingPipelineRequest,
    CustomJob,
    DeleteTrainingPipelineRequest,
    GetModelRequest,
    GetTrainingPipelineRequest,
    ListModelVersionsRequest,
    PipelineState,
    TrainingPipeline,
)

from tests.localvertex.jobs.support import PARENT, Service, pool, until
from tests.localvertex.processes import workloads

TASK = "gs://google-cloud-aiplatform/schema/trainingjob/definition/custom_task_1.0.0.yaml"
MODEL = {"display_name": "reader", "container_spec": {"image_uri": "example.test/server:1"}}
FOREVER = "import time; print('begun', flush=True); time.sleep(3600)"


def create(service: Service, code: str, *, inputs: Any = None, **pipeline: Any) -> TrainingPipeline:
    inputs = inputs or {"workerPoolSpecs": [pool(code)], "base_output_directory": {"output_uri_prefix": "gs://b/run"}}
    body = {
        "display_name": "training",
        "training_task_definition": TASK,
        "training_task_inputs": inputs,
        **pipeline,
    }
    request = CreateTrainingPipelineRequest(parent=PARENT, training_pipeline=body)
    return service.training.create_training_pipeline(request)


def get(service: Service, pipeline: TrainingPipeline) -> TrainingPipeline:
    return service.training.get_training_pipeline(GetTrainingPipelineRequest(name=pipeline.name))


def ended(service: Service, pipeline: TrainingPipeline) -> TrainingPipeline:
    return until(lambda: get(service, pipeline), lambda now: bool(now.end_time))


def backing(service: Service, pipeline: TrainingPipeline) -> CustomJob:
    metadata: Any = pipeline.training_task_metadata
    return service.store.get(CustomJob, metadata["backingCustomJob"])


def test_the_model_of_a_job_that_succeeded_is_uploaded(service: Service) -> None:
    pipeline = ended(service, create(service, "print('trained')", model_to_upload=MODEL, model_id="reader"))
    assert pipeline.state == PipelineState.PIPELINE_STATE_SUCCEEDED, pipeline.error
    assert service.log(backing(service, pipeline)) == "trained\n"
    model = service.models.get_model(GetModelRequest(name=pipeline.model_to_upload.name))
    assert (model.name, model.version_id) == (f"{PARENT}/models/reader", "1")
    assert (model.artifact_uri, model.training_pipeline) == ("gs://b/run/model", pipeline.name)
    again = ended(service, create(service, "", model_to_upload=MODEL, parent_model=model.name))
    assert again.model_to_upload.version_id == "2"


def test_a_job_that_failed_uploads_nothing_and_says_why(service: Service) -> None:
    pipeline = ended(service, create(service, "raise SystemExit('no data')", model_to_upload=MODEL))
    assert pipeline.state == PipelineState.PIPELINE_STATE_FAILED and "no data" in pipeline.error.message
    assert not pipeline.model_to_upload.name


def test_cancelling_ends_the_job(service: Service) -> None:
    pipeline = create(service, FOREVER)
    until(lambda: workloads(service.home))
    with pytest.raises(exceptions.FailedPrecondition, match="Cancel it first"):
        service.training.delete_training_pipeline(DeleteTrainingPipelineRequest(name=pipeline.name))
    service.training.cancel_training_pipeline(CancelTrainingPipelineRequest(name=pipeline.name))
    assert ended(service, pipeline).state == PipelineState.PIPELINE_STATE_CANCELLED
    assert not workloads(service.home)
    service.training.delete_training_pipeline(DeleteTrainingPipelineRequest(name=pipeline.name))
    with pytest.raises(exceptions.NotFound):
        until(lambda: get(service, pipeline), lambda now: False)


def test_it_goes_on_after_a_restart_of_the_server(restarts: Callable[[], Service]) -> None:
    code = "import pathlib, sys; mark = pathlib.Path(sys.argv[1])\nif not mark.exists(): mark.touch(); "
    before = restarts()
    mark = before.home.path / "mark"
    output = {"outputUriPrefix": "gs://b/o"}
    inputs = {"worker_pool_specs": [pool(code + FOREVER, str(mark))], "baseOutputDirectory": output}
    pipeline = create(before, "", inputs=inputs, model_to_upload=MODEL)
    until(mark.exists)
    before.close()
    assert get(before, pipeline).state == PipelineState.PIPELINE_STATE_RUNNING
    after = restarts()
    after.jobs.resume()
    after.training.resume()
    done = ended(after, pipeline)
    assert done.state == PipelineState.PIPELINE_STATE_SUCCEEDED
    versions = after.models.list_model_versions(ListModelVersionsRequest(name=done.model_to_upload.name))
    assert [version.version_id for version in versions.models] == ["1"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"display_name": ""}, exceptions.InvalidArgument, "display_name is required"),
        ({"training_task_definition": "gs://x/automl.yaml"}, exceptions.MethodNotImplemented, "custom tasks only"),
        ({"input_data_config": {"dataset_id": "1"}}, exceptions.MethodNotImplemented, "no managed datasets"),
        ({"inputs": {"workers": 3}}, exceptions.InvalidArgument, "is no custom job"),
        ({"inputs": {"workerPoolSpecs": []}}, exceptions.InvalidArgument, "must not be empty"),
        (
            {"inputs": {"workerPoolSpecs": [pool("")]}, "model_to_upload": MODEL},
            exceptions.InvalidArgument,
            "base_output_directory is required",
        ),
        ({"model_to_upload": {}}, exceptions.InvalidArgument, "model.display_name is required"),
        (
            {"model_to_upload": MODEL, "parent_model": f"{PARENT}/models/1"},
            exceptions.NotFound,
            "models/1 is not found",
        ),
    ],
)
def test_what_cannot_run_is_refused(
    service: Service, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        create(service, "", **change)
