"""Protects Google's own pipeline components: their launchers run unmodified and do here what they do there."""

import json
import time
import uuid
from pathlib import Path
from typing import Any

from google_cloud_pipeline_components.types.artifact_types import UnmanagedContainerModel
from google_cloud_pipeline_components.v1.batch_predict_job import ModelBatchPredictOp
from google_cloud_pipeline_components.v1.custom_job import (
    CustomTrainingJobOp,
    create_custom_training_job_from_component,
)
from google_cloud_pipeline_components.v1.endpoint import (
    EndpointCreateOp,
    EndpointDeleteOp,
    ModelDeployOp,
    ModelUndeployOp,
)
from google_cloud_pipeline_components.v1.hyperparameter_tuning_job import (
    HyperparameterTuningJobRunOp,
    serialize_metrics,
    serialize_parameters,
)
from google_cloud_pipeline_components.v1.model import ModelDeleteOp, ModelExportOp, ModelGetOp, ModelUploadOp
from kfp import compiler, dsl

from tests.contract.conftest import BUCKET, LOCATION, PROJECT, LocalVertex
from tests.localvertex.serving.support import SERVER

TRIAL = """
import json, os, sys
rate = float(sys.argv[1].split("=")[1])
with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "a") as file:
    print(json.dumps({"loss": rate, "global_step": 1}), file=file)
"""
SERVING = {"imageUri": "example.test/server:1", "command": ["python", "-c", SERVER], "args": ["reader"]}


def pools(code: str) -> list[dict[str, Any]]:
    container = {"image_uri": "example.test/job:1", "command": ["python", "-c", code]}
    return [{"machine_spec": {"machine_type": "n1-standard-4"}, "replica_count": 1, "container_spec": container}]


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def double(number: int, metrics: dsl.Output[dsl.Metrics]) -> int:
    metrics.log_metric("doubled", number * 2)
    return number * 2


@dsl.pipeline(name="operators-train")
def training(root: str, model: str) -> int:
    from google.cloud.aiplatform import hyperparameter_tuning as space

    CustomTrainingJobOp(display_name="custom", worker_pool_specs=pools("print('trained')"))
    HyperparameterTuningJobRunOp(
        display_name="search",
        base_output_directory=root,
        worker_pool_specs=pools(TRIAL),
        study_spec_metrics=serialize_metrics({"loss": "minimize"}),
        study_spec_parameters=serialize_parameters(
            {"rate": space.DoubleParameterSpec(min=0.1, max=0.9, scale="linear")}
        ),
        max_trial_count=2,
        parallel_trial_count=2,
    )
    ModelGetOp(model_name=model, location=LOCATION)
    doubled = create_custom_training_job_from_component(double, machine_type="n1-standard-4")(number=21)
    return doubled.outputs["Output"]


@dsl.pipeline(name="operators-serve")
def serving(instances: str, output: str, artifacts: str) -> None:
    imported = dsl.importer(
        artifact_uri=artifacts,
        artifact_class=UnmanagedContainerModel,
        metadata={"containerSpec": SERVING},
    )
    uploaded = ModelUploadOp(display_name="operators", unmanaged_container_model=imported.output)
    endpoint = EndpointCreateOp(display_name="operators")
    deployed = ModelDeployOp(
        model=uploaded.outputs["model"],
        endpoint=endpoint.outputs["endpoint"],
        dedicated_resources_machine_type="n1-standard-2",
        dedicated_resources_min_replica_count=1,
        traffic_split={"0": "100"},
    )
    predicted = ModelBatchPredictOp(
        job_display_name="operators",
        model=uploaded.outputs["model"],
        instances_format="jsonl",
        predictions_format="jsonl",
        gcs_source_uris=[instances],
        gcs_destination_output_uri_prefix=output,
        machine_type="n1-standard-2",
    )
    exported = ModelExportOp(
        model=uploaded.outputs["model"], export_format_id="custom-trained", artifact_destination=output
    )
    undeployed = ModelUndeployOp(model=uploaded.outputs["model"], endpoint=endpoint.outputs["endpoint"]).after(deployed)
    gone = EndpointDeleteOp(endpoint=endpoint.outputs["endpoint"]).after(undeployed)
    ModelDeleteOp(model=uploaded.outputs["model"]).after(gone, predicted, exported)


def run(pipeline: Any, folder: Path, **parameters: Any) -> Any:
    """Run a pipeline; all its tasks must succeed."""
    from google.cloud import aiplatform

    aiplatform.init(project=PROJECT, location=LOCATION, api_transport="grpc")
    compiler.Compiler().compile(pipeline, str(folder / "pipeline.json"))
    job = aiplatform.PipelineJob(
        display_name="operators",
        template_path=str(folder / "pipeline.json"),
        job_id=f"operators-{uuid.uuid4().hex}",
        pipeline_root=f"gs://{BUCKET}/operators",
        parameter_values=parameters,
        enable_caching=False,
    )
    job.submit()
    while not job.done():
        time.sleep(0.1)
    states = {detail.task_name: detail.state.name for detail in job.task_details}
    assert job.state.name == "PIPELINE_STATE_SUCCEEDED", (states, job.gca_resource.error)
    assert set(states.values()) == {"SUCCEEDED"}
    return job


def test_training_operators(localvertex: LocalVertex, tmp_path: Path) -> None:
    from google.cloud import aiplatform

    aiplatform.init(project=PROJECT, location=LOCATION, api_transport="grpc")
    model = aiplatform.Model.upload(display_name="found", serving_container_image_uri="example.test/server:1")
    job = run(training, tmp_path, root=f"gs://{BUCKET}/search", model=model.name)
    tasks = {detail.task_name: detail for detail in job.task_details}
    assert set(tasks) == {job.name, "custom-training-job", "hyperparameter-tuning-job", "double", "model-get"}
    (registered,) = tasks["model-get"].outputs["model"].artifacts
    assert registered.metadata["resourceName"] == f"{model.resource_name}@1"
    launched = json.loads(tasks["double"].execution.metadata["output:gcp_resources"])["resources"][0]
    assert launched["resourceType"] == "CustomJob"
    ran = aiplatform.CustomJob.get(launched["resourceUri"].rpartition("/v1/")[2])
    assert ran.state.name == "JOB_STATE_SUCCEEDED" and ran.display_name == "double"
    assert tasks["double"].execution.metadata["output:Output"] == 42
    (metrics,) = tasks["double"].outputs["metrics"].artifacts
    assert metrics.metadata["doubled"] == 42
    searched = json.loads(tasks["hyperparameter-tuning-job"].execution.metadata["output:gcp_resources"])["resources"][0]
    found = aiplatform.HyperparameterTuningJob.get(searched["resourceUri"].rpartition("/v1/")[2])
    assert [trial.state.name for trial in found.trials] == ["SUCCEEDED"] * 2


def test_serving_operators(localvertex: LocalVertex, tmp_path: Path) -> None:
    from google.cloud import aiplatform, storage

    bucket = storage.Client().bucket(BUCKET)
    bucket.blob("operators/instances.jsonl").upload_from_string('{"n": 1}\n{"n": 2}\n')
    bucket.blob("operators/model/weights").upload_from_string("weights")
    folder = f"gs://{BUCKET}/operators"
    job = run(
        serving,
        tmp_path,
        instances=f"{folder}/instances.jsonl",
        output=f"{folder}/output",
        artifacts=f"{folder}/model",
    )
    (detail,) = (task for task in job.task_details if task.task_name == "model-batch-predict")
    (artifact,) = detail.outputs["batchpredictionjob"].artifacts
    batch = aiplatform.BatchPredictionJob(artifact.metadata["resourceName"])
    (produced,) = detail.outputs["gcs_output_directory"].artifacts
    assert batch.output_info.gcs_output_directory == produced.uri and batch.completion_stats.successful_count == 2
    written = {blob.name: blob.download_as_text() for blob in bucket.list_blobs(prefix="operators/output/")}
    predictions = "".join(text for name, text in written.items() if "prediction.results" in name)
    assert sorted(json.loads(line)["prediction"]["saw"] for line in predictions.splitlines()) == [
        '{"n": 1}',
        '{"n": 2}',
    ]
    assert "weights" in [text for name, text in written.items() if "model-export-" in name]
    assert not aiplatform.Model.list(filter='display_name="operators"')
    assert not aiplatform.Endpoint.list(filter='display_name="operators"')
