"""Protects the method table against the SDK's private parts: each RPC has types and its client's rule."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.api_core import exceptions, path_template
from google.cloud.aiplatform_v1.services.endpoint_service.transports.rest_base import (
    _BaseEndpointServiceRestTransport as EndpointRest,
)
from google.cloud.aiplatform_v1.types import (
    Endpoint,
    GetModelRequest,
    ListPipelineJobsRequest,
    Model,
    PipelineJob,
    UpdateEndpointRequest,
)
from google.longrunning import operations_pb2

from localvertex.api.methods import HttpRule, MethodTable, signatures, snake_case
from localvertex.api.rest_frontend import RestFrontend

SERVICES = [
    f"google.cloud.aiplatform.v1.{name}Service"
    for name in (
        "Pipeline",
        "Job",
        "Model",
        "Endpoint",
        "Prediction",
        "Metadata",
        "Schedule",
        "Tensorboard",
    )
]
PARENT = "projects/mine/locations/us-central1"


@pytest.mark.parametrize("service", [*SERVICES, "google.cloud.resourcemanager.v3.Projects"])
def test_every_method_has_types_and_rules(service: str) -> None:
    found = signatures(service)
    assert len(found) >= 6
    for signature in found:
        assert signature.request().__class__ is signature.request
        assert signature.response is not None
        if not signature.streams:
            assert signature.rules, signature.path


def test_methods_are_those_of_the_client() -> None:
    from google.cloud.aiplatform_v1.services.pipeline_service.client import PipelineServiceClient

    for signature in signatures("google.cloud.aiplatform.v1.PipelineService"):
        assert callable(getattr(PipelineServiceClient, signature.attribute))


@pytest.mark.parametrize(
    ("name", "snake"),
    [
        ("GetContext", "get_context"),
        ("CreateNASJob", "create_nas_job"),
        ("QueryArtifactLineageSubgraph", "query_artifact_lineage_subgraph"),
    ],
)
def test_snake_case(name: str, snake: str) -> None:
    assert snake_case(name) == snake


class Recorder:
    """A service that notes requests and answers with what the test gives it."""

    def __init__(self, service: str, **answers: Any) -> None:
        self.SERVICE = service
        self.requests: list[Any] = []
        for name, answer in answers.items():
            setattr(self, name, lambda request, answer=answer: self.requests.append(request) or answer)


def front(*services: Recorder) -> RestFrontend:
    return RestFrontend(MethodTable(services, lambda project: "7"))


def test_request_from_path_and_query() -> None:
    service = Recorder(SERVICES[0], list_pipeline_jobs={})
    query = [
        ("pageSize", "5"),
        ("filter", "state=3"),
        ("orderBy", "create_time desc"),
        ("readMask", "name,displayName"),
        ("$alt", "json;enum-encoding=int"),
    ]
    service.list_pipeline_jobs = lambda request: service.requests.append(request) or _page()  # type: ignore
    answer, _ = front(service).answer("GET", f"/v1/{PARENT}/pipelineJobs", query, b"", "")
    assert service.requests == [
        ListPipelineJobsRequest(
            parent="projects/7/locations/us-central1",
            page_size=5,
            filter="state=3",
            order_by="create_time desc",
            read_mask={"paths": ["name", "display_name"]},
        )
    ]
    assert json.loads(answer)["pipelineJobs"] == [{"name": "a", "state": 4}]


def _page() -> Any:
    from google.cloud.aiplatform_v1.types import ListPipelineJobsResponse

    return ListPipelineJobsResponse(pipeline_jobs=[PipelineJob(name="a", state=4)])


def test_enums_are_names_unless_asked_for() -> None:
    service = Recorder(SERVICES[0], get_pipeline_job=PipelineJob(state=4))
    answer, _ = front(service).answer("GET", f"/v1/{PARENT}/pipelineJobs/a", [], b"", "")
    assert json.loads(answer) == {"state": "PIPELINE_STATE_SUCCEEDED"}


def test_request_from_a_body_that_is_one_field() -> None:
    service = Recorder(SERVICES[3], update_endpoint=Endpoint())
    body = json.dumps({"displayName": "x", "trafficSplit": {"1": 100}}).encode()
    front(service).answer("PATCH", f"/v1/{PARENT}/endpoints/5", [("updateMask", "traffic_split,displayName")], body, "")
    assert service.requests == [
        UpdateEndpointRequest(
            endpoint=Endpoint(
                name="projects/7/locations/us-central1/endpoints/5",
                display_name="x",
                traffic_split={"1": 100},
            ),
            update_mask={"paths": ["traffic_split", "display_name"]},
        )
    ]


def test_encoded_names_and_custom_verbs() -> None:
    service = Recorder(SERVICES[2], get_model=Model(), delete_model_version=operations_pb2.Operation())
    rest = front(service)
    rest.answer("GET", f"/v1/{PARENT}/models/5%40prod", [], b"", "")
    assert service.requests == [GetModelRequest(name="projects/7/locations/us-central1/models/5@prod")]
    rest.answer("DELETE", f"/v1/{PARENT}/models/5@2:deleteVersion", [], b"", "")
    assert service.requests[1].name.endswith("/models/5@2")


def test_raw_bodies_pass_untouched() -> None:
    from google.api import httpbody_pb2

    service = Recorder(SERVICES[4], raw_predict=httpbody_pb2.HttpBody(content_type="image/png", data=b"\xff"))
    answer = front(service).answer("POST", f"/v1/{PARENT}/endpoints/5:rawPredict", [], b"\x00{", "a/b")
    assert answer == (b"\xff", "image/png")
    assert service.requests[0].http_body.data == b"\x00{"
    assert service.requests[0].http_body.content_type == "a/b"


@pytest.mark.parametrize(
    ("verb", "path", "query", "body", "error"),
    [
        ("GET", "/v1/nowhere", [], b"", exceptions.NotFound),
        ("GET", f"/v1/{PARENT}/pipelineJobs", [("nonsense", "1")], b"", exceptions.InvalidArgument),
        ("GET", f"/v1/{PARENT}/pipelineJobs", [("pageSize", "many")], b"", exceptions.InvalidArgument),
        ("POST", f"/v1/{PARENT}/pipelineJobs", [], b"{", exceptions.InvalidArgument),
        ("POST", f"/v1/{PARENT}/pipelineJobs", [], b'{"nonsense": 1}', exceptions.InvalidArgument),
        ("DELETE", f"/v1/{PARENT}/pipelineJobs/a", [], b"", exceptions.MethodNotImplemented),
    ],
)
def test_bad_requests(verb: str, path: str, query: Any, body: bytes, error: type[Exception]) -> None:
    service = Recorder(SERVICES[0], list_pipeline_jobs=_page(), create_pipeline_job=PipelineJob())
    with pytest.raises(error):
        front(service).answer(verb, path, query, body, "application/json")


def test_handlers_own_errors_become_internal_ones() -> None:
    service = Recorder(SERVICES[0])
    service.get_pipeline_job = lambda request: 1 / 0  # type: ignore[attr-defined]
    with pytest.raises(exceptions.InternalServerError, match="ZeroDivisionError"):
        front(service).answer("GET", f"/v1/{PARENT}/pipelineJobs/a", [], b"", "")


def test_rules_reverse_the_clients_transcoding() -> None:
    rules = [
        HttpRule(each["method"].upper(), each["uri"], each.get("body", ""))
        for each in EndpointRest._BaseUpdateEndpoint._get_http_options()
    ]
    name = "projects/7/locations/us-central1/endpoints/5"
    sent = path_template.transcode(
        EndpointRest._BaseUpdateEndpoint._get_http_options(),
        UpdateEndpointRequest.pb(UpdateEndpointRequest(endpoint={"name": name})),
    )
    match = rules[0].pattern().fullmatch(sent["uri"])
    assert match is not None and dict(zip(rules[0].variables, match.groups(), strict=True)) == {"endpoint.name": name}
