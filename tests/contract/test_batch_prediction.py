"""Protects the SDK's batch prediction against localvertex, over gRPC and REST."""

import json
import time
import uuid
from types import ModuleType
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud import storage

from tests.contract.conftest import BUCKET, LocalVertex
from tests.localvertex.serving.support import SERVER


@pytest.fixture
def model(aiplatform: ModuleType) -> Any:
    return aiplatform.Model.upload(
        display_name="reader",
        serving_container_image_uri="example.test/server:1",
        serving_container_command=["python", "-c", SERVER],
        serving_container_args=["reader"],
    )


@pytest.fixture
def uri(localvertex: LocalVertex) -> str:
    """A file of instances in a folder of its own."""
    return upload(localvertex, '{"n": 100}', '{"n": 2}', "{")


def upload(localvertex: LocalVertex, *lines: str) -> str:
    name = f"instances/{uuid.uuid4().hex}/a.jsonl"
    client = storage.Client()
    bucket = client.bucket(BUCKET) if client.lookup_bucket(BUCKET) else client.create_bucket(BUCKET)
    bucket.blob(name).upload_from_string("\n".join(lines))
    return f"gs://{BUCKET}/{name}"


def outputs(job: Any) -> dict[str, list[Any]]:
    """The lines of a job's result files and of its error files."""
    found: dict[str, list[Any]] = {}
    for blob in job.iter_outputs():
        kind = blob.name.rsplit("/", 1)[1].split("-")[0]
        found.setdefault(kind, []).extend(json.loads(line) for line in blob.download_as_text().splitlines())
    return found


def settled(job: Any) -> str:
    """Wait for the end, more often than the SDK looks; the state it ended in."""
    while not job.done():
        time.sleep(0.05)
    return str(job.state.name)


def test_a_model_predicts_a_file(aiplatform: ModuleType, model: Any, uri: str) -> None:
    job = model.batch_predict(
        job_display_name="batch",
        gcs_source=f"{uri.rsplit('/', 1)[0]}/*.jsonl",
        gcs_destination_prefix=f"gs://{BUCKET}/predictions",
        instances_format="jsonl",
        machine_type="n1-standard-2",
        starting_replica_count=2,
        max_replica_count=2,
        batch_size=1,
        model_parameters={"beam": 3},
        labels={"stage": "test"},
        sync=False,
    )
    job.wait_for_resource_creation()
    assert settled(job) == "JOB_STATE_SUCCEEDED", job.error
    found = outputs(job)
    assert sorted(row["instance"]["n"] for row in found["prediction.results"]) == [2, 100]
    assert {row["prediction"]["saw"] for row in found["prediction.results"]} == {'{"n": 100}', '{"n": 2}'}
    (error,) = found["prediction.errors_stats"]
    assert (error["instance"], error["error"]["code"]) == ("{", 3)
    assert (job.completion_stats.successful_count, job.completion_stats.failed_count) == (2, 1)
    assert job.output_info.gcs_output_directory.startswith(f"gs://{BUCKET}/predictions/prediction-reader-")
    listed = aiplatform.BatchPredictionJob.list(filter='labels.stage="test"')
    assert job.resource_name in [one.resource_name for one in listed]
    job.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.BatchPredictionJob(job.resource_name)


def test_a_job_can_be_cancelled(aiplatform: ModuleType, model: Any, localvertex: LocalVertex) -> None:
    job = aiplatform.BatchPredictionJob.submit(
        job_display_name="slow",
        model_name=model,
        gcs_source=upload(localvertex, '"sleep"'),
        gcs_destination_prefix=f"gs://{BUCKET}/predictions",
        machine_type="n1-standard-2",
    )
    while job.state.name != "JOB_STATE_RUNNING":
        time.sleep(0.05)
    job.cancel()
    assert settled(job) == "JOB_STATE_CANCELLED"
    with pytest.raises((exceptions.InvalidArgument, exceptions.BadRequest), match="machine_type is required"):
        model.batch_predict("batch", gcs_source="gs://b-b/a", gcs_destination_prefix=f"gs://{BUCKET}/predictions")
