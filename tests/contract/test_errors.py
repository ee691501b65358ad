"""Protects errors: each service answers a mistake with the API's status code and a sentence that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import grpc
import pytest
from google.api_core import exceptions

from tests.contract.conftest import LOCATION, PROJECT, LocalVertex

PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
STORE = f"{PARENT}/metadataStores/default"
ENDPOINT = f"{PARENT}/endpoints/taken"
MODEL = {"display_name": "taken", "container_spec": {"image_uri": "example.test/server:1"}}
# Not an experiment: the SDK, which lists those, expects every one of them to have metadata.
CONTEXT = {"schema_title": "system.PipelineRun"}
SPEC = {
    "worker_pool_specs": [
        {
            "machine_spec": {"machine_type": "n1-standard-4"},
            "replica_count": 1,
            "container_spec": {"image_uri": "example.test/job:1", "command": ["true"]},
        }
    ]
}

# service, method, the collection that a resource of that name is looked for in, what it is called
MISSING = [
    ("Job", "get_custom_job", f"{PARENT}/customJobs/1", "CustomJob"),
    ("Job", "cancel_custom_job", f"{PARENT}/customJobs/1", "CustomJob"),
    ("Job", "delete_custom_job", f"{PARENT}/customJobs/1", "CustomJob"),
    ("Job", "get_hyperparameter_tuning_job", f"{PARENT}/hyperparameterTuningJobs/1", "HyperparameterTuningJob"),
    ("Job", "get_batch_prediction_job", f"{PARENT}/batchPredictionJobs/1", "BatchPredictionJob"),
    ("Pipeline", "get_pipeline_job", f"{PARENT}/pipelineJobs/missing", "PipelineJob"),
    ("Pipeline", "get_training_pipeline", f"{PARENT}/trainingPipelines/1", "TrainingPipeline"),
    ("Schedule", "get_schedule", f"{PARENT}/schedules/1", "Schedule"),
    ("Model", "get_model", f"{PARENT}/models/1", "Model"),
    ("Model", "delete_model", f"{PARENT}/models/1", "Model"),
    ("Endpoint", "get_endpoint", f"{PARENT}/endpoints/1", "Endpoint"),
    ("Endpoint", "delete_endpoint", f"{PARENT}/endpoints/1", "Endpoint"),
    ("Metadata", "get_metadata_store", f"{PARENT}/metadataStores/missing", "MetadataStore"),
    ("Metadata", "get_artifact", f"{STORE}/artifacts/missing", "Artifact"),
    ("Metadata", "get_execution", f"{STORE}/executions/missing", "Execution"),
    ("Metadata", "get_context", f"{STORE}/contexts/missing", "Context"),
    ("Tensorboard", "get_tensorboard", f"{PARENT}/tensorboards/1", "Tensorboard"),
]
TAKEN = [
    ("Endpoint", "create_endpoint", {"parent": PARENT, "endpoint": {"display_name": "a"}, "endpoint_id": "taken"}),
    ("Model", "upload_model", {"parent": PARENT, "model": MODEL, "model_id": "taken"}),
    ("Metadata", "create_context", {"parent": STORE, "context": CONTEXT, "context_id": "taken"}),
    ("Metadata", "create_artifact", {"parent": STORE, "artifact": {}, "artifact_id": "taken"}),
]
# service, method, request, what the sentence says
WRONG = [
    ("Job", "create_custom_job", {"parent": PARENT, "custom_job": {}}, "display_name is required"),
    ("Job", "create_custom_job", {"parent": PARENT, "custom_job": {"display_name": "a"}}, "must not be empty"),
    ("Job", "create_hyperparameter_tuning_job", {"parent": PARENT, "hyperparameter_tuning_job": {}}, "is required"),
    ("Job", "create_batch_prediction_job", {"parent": PARENT, "batch_prediction_job": {}}, "display_name"),
    ("Job", "list_custom_jobs", {"parent": PARENT, "filter": "nonsense=1"}, "position 1"),
    ("Job", "list_custom_jobs", {"parent": PARENT, "page_token": "nonsense"}, "page_token does not belong"),
    ("Pipeline", "create_pipeline_job", {"parent": PARENT, "pipeline_job": {}}, "."),
    ("Pipeline", "create_training_pipeline", {"parent": PARENT, "training_pipeline": {}}, "display_name is required"),
    ("Pipeline", "list_pipeline_jobs", {"parent": PARENT, "order_by": "nonsense"}, "order_by"),
    ("Schedule", "create_schedule", {"parent": PARENT, "schedule": {}}, "."),
    ("Model", "upload_model", {"parent": PARENT, "model": {}}, "display_name is required"),
    ("Model", "update_model", {"model": {"name": f"{PARENT}/models/taken"}}, "update_mask must not be empty"),
    ("Model", "list_models", {"parent": PARENT, "filter": "(labels.a=1"}, "position"),
    ("Model", "delete_model", {"name": f"{PARENT}/models/taken@1"}, "use DeleteModelVersion"),
    ("Endpoint", "create_endpoint", {"parent": PARENT, "endpoint": {}}, "display_name is required"),
    ("Endpoint", "create_endpoint", {"parent": PARENT, "endpoint": {"display_name": "a"}, "endpoint_id": "A"}, "'A'"),
    ("Endpoint", "deploy_model", {"endpoint": ENDPOINT, "deployed_model": {"model": f"{PARENT}/models/taken"},
                                  "traffic_split": {"0": 99}}, "add up to 100, not 99"),
    ("Metadata", "create_context", {"parent": STORE, "context": {"schema_title": "mine.Thing"}}, "mine.Thing"),
    ("Tensorboard", "create_tensorboard", {"parent": PARENT, "tensorboard": {}}, "display_name"),
]  # fmt: skip
TOO_EARLY = [
    ("Prediction", "predict", {"endpoint": ENDPOINT}, "traffic_split"),
    ("Model", "delete_model_version", {"name": f"{PARENT}/models/taken@1"}, "is the default version"),
    ("Job", "cancel_custom_job", {"name": "ENDED"}, "cannot be cancelled"),
]


@pytest.fixture(scope="module", params=["grpc", "rest"])
def call(localvertex: LocalVertex, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Calls a method of a service by the generated clients."""
    from google.cloud import aiplatform_v1

    clients: dict[str, Any] = {}

    def call(service: str, method: str, body: dict[str, Any]) -> Any:
        if service not in clients:
            kind = getattr(aiplatform_v1, f"{service}ServiceClient")
            options = {"api_endpoint": f"{LOCATION}-aiplatform.googleapis.com"}
            clients[service] = kind(transport=request.param, client_options=options)
        return getattr(clients[service], method)(request=body)

    return call


@pytest.fixture(scope="module")
def prepared(call: Callable[..., Any]) -> str:
    """What is taken, and the name of a job that has ended."""
    for service, method, body in TAKEN:
        try:
            made = call(service, method, body)
            if hasattr(made, "result"):
                made.result()
        except exceptions.Conflict:
            continue  # by the other protocol's turn
    job = call("Job", "create_custom_job", {"parent": PARENT, "custom_job": {"display_name": "a", "job_spec": SPEC}})
    while not call("Job", "get_custom_job", {"name": job.name}).end_time:
        continue
    return str(job.name)


def refused(call: Callable[..., Any], service: str, method: str, body: dict[str, Any]) -> tuple[str, str]:
    """The status and the message of the error that a call is answered with."""
    with pytest.raises(exceptions.GoogleAPICallError) as caught:
        call(service, method, body)
    error = caught.value
    if isinstance(error.response, grpc.RpcError):
        return error.grpc_status_code.name, error.message
    answer = error.response.json()["error"]
    assert answer["code"] == error.code
    return answer["status"], answer["message"]


@pytest.mark.parametrize(("service", "method", "name", "kind"), MISSING)
def test_what_is_not_there_is_not_found(
    call: Callable[..., Any], service: str, method: str, name: str, kind: str
) -> None:
    status, message = refused(call, service, method, {"name": name})
    assert status == "NOT_FOUND"
    numbered = name.replace(PROJECT, "100000000001")
    assert message == f"{kind} {numbered} is not found."


@pytest.mark.parametrize(("service", "method", "body"), TAKEN)
def test_what_is_taken_already_exists(
    call: Callable[..., Any], prepared: str, service: str, method: str, body: dict[str, Any]
) -> None:
    status, message = refused(call, service, method, body)
    assert status == "ALREADY_EXISTS"
    assert "taken already exists" in message


@pytest.mark.parametrize(("service", "method", "body", "words"), WRONG)
def test_what_is_wrong_is_an_invalid_argument(
    call: Callable[..., Any], prepared: str, service: str, method: str, body: dict[str, Any], words: str
) -> None:
    status, message = refused(call, service, method, body)
    assert status == "INVALID_ARGUMENT"
    assert words in message


@pytest.mark.parametrize(("service", "method", "body", "words"), TOO_EARLY)
def test_what_cannot_be_done_now_is_a_failed_precondition(
    call: Callable[..., Any], prepared: str, service: str, method: str, body: dict[str, Any], words: str
) -> None:
    status, message = refused(
        call, service, method, {key: prepared if value == "ENDED" else value for key, value in body.items()}
    )
    assert status == "FAILED_PRECONDITION"
    assert words in message
