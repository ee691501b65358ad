"""Protects the front ends: both protocols answer alike, refuse strangers, bound reads, name errors right."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import GetPipelineJobRequest, PipelineJob

from localvertex.access import JWT_GRANT, Access, client_token, sign
from localvertex.api import http_frontend
from localvertex.api.grpc_frontend import serve_grpc
from localvertex.api.http_frontend import HttpFrontend
from localvertex.api.methods import MethodTable
from localvertex.api.own_frontend import OwnFrontend
from localvertex.api.rest_frontend import RestFrontend
from localvertex.api.storage_frontend import StorageFrontend
from localvertex.buckets import Buckets
from localvertex.console.frontend import ConsoleFrontend
from localvertex.console.sessions import Sessions
from localvertex.home import Home
from localvertex.services.projects import Projects
from localvertex.store import Store

SERVICE = "google.cloud.aiplatform.v1.PipelineService"
PARENT = "projects/localvertex/locations/us-central1"
API = "https://us-central1-aiplatform.googleapis.com"
STORAGE = "https://storage.googleapis.com"


class Pipelines:
    """A service that answers, refuses or breaks, by the name it is asked for."""

    SERVICE = SERVICE

    def get_pipeline_job(self, request: GetPipelineJobRequest) -> PipelineJob:
        if request.name.endswith("/missing"):
            raise exceptions.NotFound(f"PipelineJob {request.name} is not found.")
        if request.name.endswith("/broken"):
            raise RuntimeError("broken")
        return PipelineJob(name=request.name, display_name="é")


class Http:
    """Sends requests to the HTTP front end without a network."""

    def __init__(self, frontend: HttpFrontend) -> None:
        self._transport = httpx.ASGITransport(frontend)

    def request(self, verb: str, url: str, **options: Any) -> httpx.Response:
        async def send() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url=API) as client:
                return await client.request(verb, url, **options)

        return asyncio.run(send())

    def get(self, url: str, **options: Any) -> httpx.Response:
        return self.request("GET", url, **options)

    def post(self, url: str, **options: Any) -> httpx.Response:
        return self.request("POST", url, **options)

    def delete(self, url: str, **options: Any) -> httpx.Response:
        return self.request("DELETE", url, **options)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "state").create()


@pytest.fixture
def projects(home: Home) -> Projects:
    return Projects(Store.at(home.database), home)


@pytest.fixture
def table(projects: Projects) -> MethodTable:
    return MethodTable([Pipelines(), projects], projects.number_of)


@pytest.fixture
def http(home: Home, projects: Projects, table: MethodTable) -> Http:
    buckets = Buckets(home, Store.at(home.database))
    own = OwnFrontend(Store.at(home.database))
    access, storage = Access(home), StorageFrontend(buckets, projects)
    console = ConsoleFrontend(Sessions(home), (), home.server_log)
    return Http(HttpFrontend(access, RestFrontend(table), storage, own, console))


@pytest.fixture
def channel(home: Home, table: MethodTable) -> Iterator[grpc.Channel]:
    server, port = serve_grpc(table, Access(home).verify)
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        yield channel
    server.stop(0).wait()


@pytest.fixture
def bearer(home: Home, http: Http) -> dict[str, str]:
    return {"Authorization": f"Bearer {client_token(home)}"}


def call(channel: grpc.Channel, method: str, name: str, token: str = "") -> PipelineJob:
    stub = channel.unary_unary(
        f"/{SERVICE}/{method}",
        request_serializer=GetPipelineJobRequest.serialize,
        response_deserializer=PipelineJob.deserialize,
    )
    metadata = (("authorization", token),) if token else ()
    return stub(GetPipelineJobRequest(name=f"{PARENT}/pipelineJobs/{name}"), metadata=metadata)


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [
        ("missing", 404, grpc.StatusCode.NOT_FOUND),
        ("broken", 500, grpc.StatusCode.INTERNAL),
    ],
)
def test_errors_are_the_same_over_both(
    http: Http,
    channel: grpc.Channel,
    bearer: dict[str, str],
    name: str,
    status: int,
    code: grpc.StatusCode,
) -> None:
    answer = http.get(f"/v1/{PARENT}/pipelineJobs/{name}", headers=bearer)
    assert answer.status_code == answer.json()["error"]["code"] == status
    assert answer.json()["error"]["status"] == code.name
    with pytest.raises(grpc.RpcError) as raised:
        call(channel, "GetPipelineJob", name, bearer["Authorization"])
    assert raised.value.code() is code
    assert raised.value.details() == answer.json()["error"]["message"]


def test_answers_are_the_same_over_both(http: Http, channel: grpc.Channel, bearer: dict[str, str]) -> None:
    answer = http.get(f"/v1/{PARENT}/pipelineJobs/a", headers=bearer)
    assert answer.json() == {
        "name": "projects/100000000001/locations/us-central1/pipelineJobs/a",
        "displayName": "é",
    }
    assert call(channel, "GetPipelineJob", "a", bearer["Authorization"]).name == answer.json()["name"]


def test_calls_not_served_say_so(http: Http, channel: grpc.Channel, bearer: dict[str, str]) -> None:
    answer = http.delete(f"/v1/{PARENT}/pipelineJobs/a", headers=bearer)
    assert (answer.status_code, answer.json()["error"]["status"]) == (501, "UNIMPLEMENTED")
    assert "PipelineService/DeletePipelineJob" in answer.json()["error"]["message"]
    assert http.get("/v1/nowhere", headers=bearer).json()["error"]["status"] == "NOT_FOUND"
    for method in ("DeletePipelineJob", "NoSuchMethod"):
        with pytest.raises(grpc.RpcError) as raised:
            call(channel, method, "a", bearer["Authorization"])
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert method in raised.value.details()


@pytest.mark.parametrize("token", ["", "Bearer x", "Bearer e30.e30.e30"])
def test_strangers_are_refused_everywhere(http: Http, channel: grpc.Channel, token: str) -> None:
    headers = {"Authorization": token} if token else {}
    for url in (f"{API}/v1/{PARENT}/pipelineJobs/a", f"{STORAGE}/storage/v1/b", f"{API}/nowhere"):
        answer = http.get(url, headers=headers)
        assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED")
    with pytest.raises(grpc.RpcError) as raised:
        call(channel, "GetPipelineJob", "a", token)
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED


def test_token_endpoint_serves_its_own_account(home: Home, http: Http) -> None:
    account = json.loads((home.keys / "service-account.json").read_text())
    assertion = sign(account["client_email"], account["private_key"], {"aud": account["token_uri"]})
    form = {"grant_type": JWT_GRANT, "assertion": assertion}
    token = http.post(account["token_uri"], data=form).json()["access_token"]
    answer = http.get(f"/v1/{PARENT}/pipelineJobs/a", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 200
    refused = http.post(account["token_uri"], data={**form, "assertion": "e30.e30.e30"})
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert http.post(account["token_uri"], data={"grant_type": "password"}).status_code == 400


def test_requests_are_bounded(http: Http, bearer: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_frontend, "BODY_LIMIT", 1000)
    answer = http.post(f"/v1/{PARENT}/pipelineJobs", content=b"x" * 1001, headers=bearer)
    assert answer.status_code == 413


def test_any_project_id_has_a_number_of_its_own(http: Http, bearer: dict[str, str], home: Home) -> None:
    manager = "https://cloudresourcemanager.googleapis.com/v3/projects"
    mine = http.get(f"{manager}/my-company", headers=bearer).json()
    assert mine["projectId"] == "my-company" and mine["name"] != "projects/100000000001"
    assert http.get(f"{manager}/{mine['name'].split('/')[1]}", headers=bearer).json() == mine
    assert http.get(f"{manager}/123", headers=bearer).status_code == 404
    again = Projects(Store.at(home.database), home)
    assert again.number_of("my-company") == mine["name"].split("/")[1]
