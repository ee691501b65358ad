"""Protects deployment: traffic goes to healthy servers only, as split, and no server is lost or left over."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    DeleteEndpointRequest,
    DeployModelRequest,
    ListEndpointsRequest,
    MutateDeployedModelRequest,
    RawPredictRequest,
    UpdateEndpointRequest,
)
from google.longrunning import operations_pb2

from localvertex.services import serving
from localvertex.services.serving import expand
from tests.localvertex.processes import workloads
from tests.localvertex.serving.support import PARENT, Failed, Service, container, until


def test_a_deployed_model_answers_and_says_who_it_is(service: Service) -> None:
    model, endpoint = service.upload(container_spec=container("first")), service.endpoint()
    deployed = service.deploy(endpoint, model)
    answer = service.predict(endpoint, {"n": 100, "x": 0.5}, [1, None, True, "a"], beam=True)
    assert [prediction["saw"] for prediction in answer.predictions] == [
        '{"n": 100, "x": 0.5}',
        '[1, null, true, "a"]',
    ]
    assert answer.predictions[0]["by"] == "first" and answer.metadata["beam"] is True
    assert f"{answer.model}@{answer.model_version_id}" == model
    assert (answer.deployed_model_id, answer.model_display_name) == (deployed, "reader")
    (found,) = service.get(endpoint).deployed_models
    assert found.create_time and found.dedicated_resources.max_replica_count == 1


def test_raw_bodies_pass_unchanged(service: Service) -> None:
    endpoint = service.endpoint()
    service.deploy(endpoint, service.upload())
    body = {"content_type": "application/octet-stream", "data": b"\x00\xff"}
    answer = service.prediction.raw_predict(RawPredictRequest(endpoint=endpoint, http_body=body))
    assert (answer.content_type, answer.data) == ("application/octet-stream", b"raw:\x00\xff")


def test_the_servers_errors_become_the_apis(service: Service) -> None:
    endpoint = service.endpoint(client_connection_config={"inference_timeout": "1s"})
    service.deploy(endpoint, service.upload())
    expected = {
        400: exceptions.InvalidArgument,
        429: exceptions.ResourceExhausted,
        503: exceptions.ServiceUnavailable,
        500: exceptions.InternalServerError,
    }
    for status, error in expected.items():
        with pytest.raises(error, match=f"instance 0: {status} is bad"):
            service.predict(endpoint, status)
    with pytest.raises(exceptions.InternalServerError, match="not a JSON object"):
        service.predict(endpoint, "nonsense")
    with pytest.raises(exceptions.DeadlineExceeded, match="within 1 s"):
        service.predict(endpoint, "sleep")


def test_a_server_that_never_starts_fails_the_deployment_with_its_log(service: Service) -> None:
    code = "import sys; print('no model at', __import__('os').environ['AIP_STORAGE_URI']); sys.exit(4)"
    spec = container(command=["python", "-c", code])
    model, endpoint = service.upload(container_spec=spec, artifact_uri="gs://b/m"), service.endpoint()
    with pytest.raises(Failed, match=r"FAILED_PRECONDITION.*status 4.*[\s\S]*no model at gs://b/m"):
        service.deploy(endpoint, model)
    assert not service.get(endpoint).deployed_models and not workloads(service.home)


def test_a_server_that_stays_unhealthy_fails_the_deployment_and_is_ended(service: Service) -> None:
    spec = container(health_route="/health", deployment_timeout="1s", env=[{"name": "SLOW", "value": "60"}])
    endpoint = service.endpoint()
    with pytest.raises(Failed, match=r"did not become healthy within 1 s[\s\S]*serving"):
        service.deploy(endpoint, service.upload(container_spec=spec))
    assert not service.get(endpoint).deployed_models and not workloads(service.home)


def test_traffic_is_split_request_by_request(service: Service) -> None:
    endpoint = service.endpoint()
    old = service.deploy(endpoint, service.upload(container_spec=container("old")))
    new = service.deploy(endpoint, service.upload(container_spec=container("new")), {"0": 30, old: 70})
    counts = Counter(service.predict(endpoint, 1).predictions[0]["by"] for _ in range(200))
    assert 30 <= counts["new"] <= 95 and counts["old"] == 200 - counts["new"]
    mask = {"paths": ["traffic_split"]}
    split = {"name": endpoint, "traffic_split": {new: 100, old: 0}}
    service.endpoints.update_endpoint(UpdateEndpointRequest(endpoint=split, update_mask=mask))
    assert {service.predict(endpoint, 1).deployed_model_id for _ in range(20)} == {new}
    service.undeploy(endpoint, old)
    assert [one.id for one in service.get(endpoint).deployed_models] == [new]
    assert len(workloads(service.home)) == 1


def test_a_sick_replica_gets_no_requests_until_it_is_well(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_SECONDS_BETWEEN_CHECKS", 0.1)
    endpoint = service.endpoint()
    service.deploy(endpoint, service.upload(), replicas=2)

    def answering() -> set[float]:
        return {service.predict(endpoint, 1).predictions[0]["pid"] for _ in range(4)}

    both = answering()
    assert len(both) == 2
    sick = service.predict(endpoint, "sick").predictions[0]["pid"]
    until(lambda: answering() == both - {sick})
    until(lambda: answering() == both)


def test_private_endpoints_are_refused_and_logging_is_kept(service: Service) -> None:
    for field in ("network", "dedicated_endpoint_enabled"):
        with pytest.raises(exceptions.MethodNotImplemented, match=f"endpoint.{field} is not supported"):
            service.endpoint(**{field: "projects/1/global/networks/vpc" if field == "network" else True})
    logging = {"enabled": True, "sampling_rate": 0.5, "bigquery_destination": {"output_uri": "bq://p.d.t"}}
    endpoint = service.get(service.endpoint(predict_request_response_logging_config=logging))
    assert endpoint.predict_request_response_logging_config.sampling_rate == 0.5


def test_a_cancelled_deployment_leaves_no_server(service: Service) -> None:
    endpoint = service.endpoint()
    model = service.upload(container_spec=container(env=[{"name": "SLOW", "value": "60"}]))
    request = DeployModelRequest(endpoint=endpoint, deployed_model={"model": model}, traffic_split={"0": 100})
    deploying = service.endpoints.deploy_model(request)
    until(lambda: workloads(service.home))
    service.operations.cancel_operation(operations_pb2.CancelOperationRequest(name=deploying.name))
    with pytest.raises(Failed, match="CANCELLED"):
        service.done(deploying)
    assert not service.get(endpoint).deployed_models and not workloads(service.home)


def test_the_last_model_takes_the_traffic_split_with_it(service: Service) -> None:
    endpoint = service.endpoint()
    deployed = service.deploy(endpoint, service.upload())
    service.undeploy(endpoint, deployed, {"nobody": 100})
    assert not service.get(endpoint).traffic_split


def test_traffic_splits_that_make_no_sense_are_refused(service: Service) -> None:
    endpoint, model = service.endpoint(), service.upload()
    request = DeployModelRequest(endpoint=endpoint, deployed_model={"model": model}, traffic_split={"0": 99})
    with pytest.raises(exceptions.InvalidArgument, match="add up to 100, not 99"):
        service.endpoints.deploy_model(request)
    request.traffic_split = {"0": 50, "7": 50}
    with pytest.raises(exceptions.InvalidArgument, match="no deployed model 7"):
        service.endpoints.deploy_model(request)
    deployed = service.deploy(endpoint, model)
    service.deploy(endpoint, model, {"0": 50, deployed: 50})
    with pytest.raises(exceptions.FailedPrecondition, match="has traffic"):
        service.undeploy(endpoint, deployed)


def test_an_endpoint_without_traffic_says_so(service: Service) -> None:
    endpoint = service.endpoint()
    with pytest.raises(exceptions.FailedPrecondition, match="traffic_split"):
        service.predict(endpoint, 1)
    service.deploy(endpoint, service.upload(), {})
    with pytest.raises(exceptions.FailedPrecondition, match="traffic_split"):
        service.predict(endpoint, 1)


def test_replicas_share_the_work_and_can_be_scaled(service: Service) -> None:
    endpoint = service.endpoint()
    deployed = service.deploy(endpoint, service.upload(), replicas=2)

    def pids() -> set[float]:
        return {service.predict(endpoint, 1).predictions[0]["pid"] for _ in range(6)}

    assert len(pids()) == 2
    for count in (3, 1):
        request = MutateDeployedModelRequest(
            endpoint=endpoint,
            deployed_model={"id": deployed, "dedicated_resources": {"min_replica_count": count}},
            update_mask={"paths": ["dedicated_resources.min_replica_count"]},
        )
        service.done(service.endpoints.mutate_deployed_model(request))
        assert len(pids()) == count == len(workloads(service.home))
    (found,) = service.get(endpoint).deployed_models
    assert found.dedicated_resources.machine_spec.machine_type == "n1-standard-2"


def test_a_server_that_dies_is_started_again(service: Service) -> None:
    endpoint = service.endpoint()
    service.deploy(endpoint, service.upload())
    (first,) = workloads(service.home)
    os.kill(first.pid, signal.SIGKILL)
    assert service.predict(endpoint, 1).predictions[0]["pid"] != first.pid


def test_a_request_that_ends_its_server_is_not_tried_for_ever(service: Service) -> None:
    endpoint = service.endpoint()
    service.deploy(endpoint, service.upload())
    with pytest.raises(exceptions.ServiceUnavailable, match="broke off"):
        service.predict(endpoint, "die")
    assert service.predict(endpoint, 1).predictions


def test_servers_come_back_after_a_restart(restarts: Callable[[], Service]) -> None:
    before = restarts()
    endpoint = before.endpoint()
    deployed = before.deploy(endpoint, before.upload(container_spec=container("kept")))
    before.close()
    assert not workloads(before.home)
    after = restarts()
    after.endpoints.resume()
    answer = after.predict(endpoint, 1)
    assert (answer.deployed_model_id, answer.predictions[0]["by"]) == (deployed, "kept")


def test_made_up_routes_cannot_be_guessed_and_given_ones_are_kept(service: Service) -> None:
    endpoint = service.endpoint()
    deployed = service.deploy(endpoint, service.upload())
    service.deploy(endpoint, service.upload(container_spec=container(predict_route="/predict")))
    routes = sorted(process.environ()["AIP_PREDICT_ROUTE"] for process in workloads(service.home))
    assert routes[0] == "/predict" and len(routes[1].split(f"{deployed}-", 1)[1]) >= 20


def test_an_endpoint_with_models_is_not_deleted(service: Service) -> None:
    endpoint = service.endpoint()
    deployed = service.deploy(endpoint, service.upload())
    with pytest.raises(Failed, match=f"FAILED_PRECONDITION.*{deployed}"):
        service.done(service.endpoints.delete_endpoint(DeleteEndpointRequest(name=endpoint)))
    service.undeploy(endpoint, deployed)
    service.done(service.endpoints.delete_endpoint(DeleteEndpointRequest(name=endpoint)))
    assert not service.endpoints.list_endpoints(ListEndpointsRequest(parent=PARENT)).endpoints
    assert not workloads(service.home)


def test_endpoints_are_found_by_display_name(service: Service) -> None:
    words = service.endpoint()
    service.endpoint(display_name="digits")
    request = ListEndpointsRequest(parent=PARENT, filter='display_name="words"')
    assert [one.name for one in service.endpoints.list_endpoints(request).endpoints] == [words]


def test_variables_are_expanded_as_in_kubernetes() -> None:
    text = "--port=$(AIP_HTTP_PORT) $$(AIP_HTTP_PORT) $(UNKNOWN) $HOME"
    assert expand(text, {"AIP_HTTP_PORT": "80"}) == "--port=80 $(AIP_HTTP_PORT) $(UNKNOWN) $HOME"
