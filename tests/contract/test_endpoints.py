"""Protects the SDK's endpoints and predictions against localvertex, over gRPC and REST."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
from google.api_core import exceptions

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


def test_a_server_that_does_not_start_fails_the_deployment(aiplatform: ModuleType, endpoint: Any) -> None:
    model = upload(aiplatform, "broken", "raise SystemExit('no weights')")
    with pytest.raises(exceptions.GoogleAPICallError, match="no weights"):
        deploy(endpoint, model)
    assert not endpoint.list_models()


def test_endpoints_are_found_updated_and_deleted(aiplatform: ModuleType) -> None:
    endpoint = aiplatform.Endpoint.create(display_name="found")
    endpoint.update(display_name="renamed", labels={"stage": "live"})
    (found,) = aiplatform.Endpoint.list(filter='display_name="renamed" AND labels.stage="live"')
    assert found.resource_name == endpoint.resource_name
    endpoint.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.Endpoint(endpoint.resource_name).display_name  # noqa: B018
