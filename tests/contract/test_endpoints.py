"""Protects the SDK's endpoints and predictions against localvertex, over gRPC and REST."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from google.api_core import exceptions
from google.longrunning import operations_pb2
from google.rpc import code_pb2

from tests.localvertex.serving.support import SERVER


@pytest.fixture
def endpoint(aiplatform: ModuleType) -> Iterator[Any]:
    made = aiplatform.Endpoint.create(display_name="words", labels={"stage": "test"})
    yield made
    made.delete(force=True)


def upload(aiplatform: ModuleType, name: str, command: str = SERVER) -> Any:
    return aiplatform.Model.upload(
        display_name=name,
        serving_container_image_uri="example.test/server:1",
        serving_container_command=["python", "-c", command],
        serving_container_args=[name],
    )


def waited(client: Any, request: dict[str, Any]) -> operations_pb2.Operation:
    """An operation waited for; over gRPC the client leaves it to the caller to decode it."""
    answer = client.wait_operation(request)
    return operations_pb2.Operation.FromString(answer) if isinstance(answer, bytes) else answer


def deploy(endpoint: Any, model: Any, percentage: int = 100) -> str:
    known = {one.id for one in endpoint.list_models()}
    endpoint.deploy(model, machine_type="n1-standard-2", traffic_percentage=percentage)
    (new,) = {one.id for one in endpoint.list_models()} - known
    return new


def test_a_model_is_deployed_and_predicts(aiplatform: ModuleType, endpoint: Any) -> None:
    model = upload(aiplatform, "reader")
    deployed = deploy(endpoint, model)
    answer = endpoint.predict(instances=[{"n": 100}, "a"], parameters={"beam": True})
    assert [prediction["saw"] for prediction in answer.predictions] == ['{"n": 100}', '"a"']
    assert (answer.deployed_model_id, answer.model_resource_name) == (deployed, model.resource_name)
    assert answer.model_version_id == "1"
    raw = endpoint.raw_predict(b"\x00\xff", {"Content-Type": "application/octet-stream"})
    assert raw.content == b"raw:\x00\xff"
    with pytest.raises(exceptions.BadRequest, match="instance 0: 400 is bad"):
        endpoint.predict(instances=[400])


def test_traffic_moves_to_another_version(aiplatform: ModuleType, endpoint: Any) -> None:
    old, new = upload(aiplatform, "old"), upload(aiplatform, "new")
    first = deploy(endpoint, old)
    second = deploy(endpoint, new, 40)
    assert endpoint.traffic_split == {first: 60, second: 40}
    assert {endpoint.predict(instances=[1]).predictions[0]["by"] for _ in range(40)} == {"old", "new"}
    endpoint.update(traffic_split={first: 0, second: 100})
    endpoint.undeploy(first)
    assert {endpoint.predict(instances=[1]).predictions[0]["by"] for _ in range(5)} == {"new"}
    found = aiplatform.Endpoint(endpoint.resource_name)
    assert [one.id for one in found.list_models()] == [second]


def test_replicas_are_added_and_all_models_undeployed(aiplatform: ModuleType, endpoint: Any) -> None:
    model = upload(aiplatform, "reader")
    deployed = [deploy(endpoint, model), deploy(endpoint, model, 50)]
    change = {
        "endpoint": endpoint.resource_name,
        "deployed_model": {
            "id": deployed[0],
            "dedicated_resources": {"machine_spec": {"machine_type": "n1-standard-2"}, "min_replica_count": 2},
        },
        "update_mask": {"paths": ["dedicated_resources"]},
    }
    endpoint.api_client.mutate_deployed_model(request=change).result()
    endpoint.update(traffic_split={deployed[0]: 100, deployed[1]: 0})
    assert len({endpoint.predict(instances=[1]).predictions[0]["pid"] for _ in range(4)}) == 2
    endpoint.undeploy_all()
    assert not endpoint.list_models() and not endpoint.traffic_split


def test_a_deployment_is_cancelled(aiplatform: ModuleType, endpoint: Any) -> None:
    model = upload(aiplatform, "never", "import time; print('begun', flush=True); time.sleep(3600)")
    request = {"endpoint": endpoint.resource_name, "deployed_model": {"model": model.resource_name}}
    request["deployed_model"]["automatic_resources"] = {}
    deploying = endpoint.api_client.deploy_model(request=request)
    name = deploying.operation.name
    client = endpoint.api_client
    listed = client.list_operations({"name": endpoint.resource_name, "filter": "done=false"})
    assert [operation.name for operation in listed.operations] == [name]
    assert not waited(client, {"name": name, "timeout": {"nanos": 1000}}).done
    client.cancel_operation({"name": name})
    ended = waited(client, {"name": name})
    assert ended.done and ended.error.code == code_pb2.CANCELLED
    assert client.get_operation({"name": name}) == ended
    client.delete_operation({"name": name})
    with pytest.raises(exceptions.NotFound):
        client.get_operation({"name": name})
    assert not aiplatform.Endpoint(endpoint.resource_name).list_models()


def test_raw_requests_and_connection_settings(aiplatform: ModuleType, endpoint: Any) -> None:
    from google.api import httpbody_pb2

    deploy(endpoint, upload(aiplatform, "reader"))
    # Over REST the client would send a body's JSON in its place; there `Endpoint.raw_predict` does better.
    if aiplatform.initializer.global_config._api_transport == "grpc":
        body = httpbody_pb2.HttpBody(content_type="application/octet-stream", data=b"\x00\xff")
        answer = endpoint._prediction_client.raw_predict(endpoint=endpoint.resource_name, http_body=body)
        assert (answer.content_type, answer.data) == ("application/octet-stream", b"raw:\x00\xff")
    changed = {"name": endpoint.resource_name, "client_connection_config": {"inference_timeout": "1s"}}
    assert endpoint.api_client.update_endpoint_long_running(endpoint=changed).result().name == endpoint.resource_name
    with pytest.raises(exceptions.GoogleAPICallError, match="within 1 s"):
        endpoint.predict(instances=["sleep"])


def test_what_is_not_served_says_so(aiplatform: ModuleType, endpoint: Any) -> None:
    with pytest.raises(exceptions.GoogleAPICallError, match=r"does not serve .*PredictionService/Explain"):
        endpoint.explain(instances=[1])
    with pytest.raises(exceptions.GoogleAPICallError, match="dedicated_endpoint_enabled is not supported"):
        aiplatform.Endpoint.create(display_name="dedicated", dedicated_endpoint_enabled=True)
    with pytest.raises(exceptions.GoogleAPICallError, match="network is not supported"):
        aiplatform.PrivateEndpoint.create(display_name="private", network="projects/1/global/networks/vpc")


def test_a_server_that_does_not_start_fails_the_deployment(aiplatform: ModuleType, endpoint: Any) -> None:
    model = upload(aiplatform, "broken", "raise SystemExit('no weights')")
    with pytest.raises(exceptions.GoogleAPICallError, match="no weights"):
        deploy(endpoint, model)
    assert not endpoint.list_models()


def test_endpoints_are_found_updated_and_deleted(aiplatform: ModuleType) -> None:
    endpoint = aiplatform.Endpoint.create(
        display_name="found",
        enable_request_response_logging=True,
        request_response_logging_sampling_rate=0.5,
        request_response_logging_bq_destination_table="bq://project.dataset.table",
    )
    assert endpoint.gca_resource.predict_request_response_logging_config.sampling_rate == 0.5
    endpoint.update(display_name="renamed", labels={"stage": "live"})
    (found,) = aiplatform.Endpoint.list(filter='display_name="renamed" AND labels.stage="live"')
    assert found.resource_name == endpoint.resource_name
    endpoint.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.Endpoint(endpoint.resource_name).display_name  # noqa: B018
