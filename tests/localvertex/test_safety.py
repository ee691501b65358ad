"""Protects what is promised of safety: a token for every route, names that stay in their bucket, bounded requests."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from google.api_core import exceptions
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from localvertex import daemon
from localvertex.access import Access, client_token
from localvertex.api import bigquery_frontend, logging_frontend, uploads
from localvertex.api.grpc_frontend import serve_grpc
from localvertex.api.methods import HttpRule, MethodTable
from localvertex.api.own_frontend import OwnFrontend
from localvertex.api.storage_frontend import StorageFrontend
from localvertex.buckets import Buckets
from localvertex.checksums import checksum_file
from localvertex.home import Home
from localvertex.redirect import redirect_environment
from localvertex.server import Services, http_frontend
from localvertex.store import Store
from localvertex.workloads.table import ImageTable
from tests.localvertex.runners import new_runner

API = "https://us-central1-aiplatform.googleapis.com"
STORAGE = "https://storage.googleapis.com"


class Front:
    """Everything a server answers with, without its process."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.services = Services(home, new_runner(home, ImageTable((), home.path), {}))
        self.table = MethodTable(self.services.api, self.services.projects.number_of)
        self.storage = StorageFrontend(self.services.buckets, self.services.projects)
        self.own = OwnFrontend(self.services.store)
        access = Access(home)
        application = http_frontend(home, self.services, access, self.table, self.storage, self.own)
        self._transport = httpx.ASGITransport(application)
        self._loop = asyncio.new_event_loop()
        self._client = httpx.AsyncClient(transport=self._transport)
        self.bearer = {"Authorization": f"Bearer {client_token(home)}"}
        self.server, port = serve_grpc(self.table, access.verify)
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])

    def __call__(self, verb: str, url: str, **options: Any) -> httpx.Response:
        return self._loop.run_until_complete(self._client.request(verb, url, **options))

    def rpc(self, path: str, request: bytes = b"", *, token: bool = True) -> grpc.StatusCode:
        metadata = (("authorization", self.bearer["Authorization"]),) if token else ()
        try:
            self.channel.unary_unary(path)(request, metadata=metadata, timeout=30)
        except grpc.RpcError as error:
            code: grpc.StatusCode = error.code()
            return code
        return grpc.StatusCode.OK

    def close(self) -> None:
        self.channel.close()
        self.server.stop(0).wait()
        self._loop.run_until_complete(self._client.aclose())
        self._loop.close()
        self.services.close()


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    front = Front(Home(tmp_path_factory.mktemp("safety") / "state").create())
    yield front
    front.close()


def url_of(rule: HttpRule) -> str:
    """A URL that a rule matches."""
    path = re.sub(r"\{[^=}]+=([^}]+)\}", r"\1", rule.template)
    return API + re.sub(r"\{[^}]+\}", "x", path).replace("**", "x").replace("*", "x")


def storage_urls(front: Front) -> list[tuple[str, str]]:
    patterns = [(verb, pattern.pattern) for verb, pattern, _ in front.storage._routes]
    more = [
        ("POST", "/upload/storage/v1/b/([^/]+)/o?uploadType=media&name=x"),
        ("PUT", "/upload/storage/v1/b/([^/]+)/o?uploadType=resumable&upload_id=x"),
        ("POST", "/resumable/upload/storage/v1/b/([^/]+)/o?uploadType=resumable"),
        ("GET", "/storage/v1/b/([^/]+)/o/([^/]+)?alt=media"),
        ("GET", "/download/storage/v1/b/([^/]+)/o/([^/]+)?alt=media"),
        ("POST", "/batch/storage/v1"),
        ("POST", "/([^/]+)/([^/]+)?uploads"),
    ]
    return [(verb, STORAGE + path.replace("([^/]+)", "xyz")) for verb, path in (*patterns, *more)]


def test_every_route_asks_for_a_token(front: Front) -> None:
    rules = [(rule.verb, url_of(rule)) for method in front.table.methods for rule in method.signature.rules]
    own = [(verb, API + re.sub(r"\(.*?\)", "x", pattern.pattern)) for verb, pattern, _ in front.own._routes]
    others = [("POST", f"https://{module.HOST}/v2/x") for module in (bigquery_frontend, logging_frontend)]
    routes = [*rules, *storage_urls(front), *own, *others, ("GET", f"{API}/"), ("GET", f"{STORAGE}/")]
    assert len(rules) > 150
    for verb, url in routes:
        answer = front(verb, url)
        assert (answer.status_code, answer.json()["error"]["status"]) == (401, "UNAUTHENTICATED"), (verb, url)
    for method in front.table.methods:
        assert front.rpc(method.signature.path, token=False) is grpc.StatusCode.UNAUTHENTICATED, method.signature.path
    assert front.rpc("/no.Such/Method", token=False) is grpc.StatusCode.UNAUTHENTICATED


DEEP = b'{"a":' * 3000 + b"1" + b"}" * 3000
NONSENSE = [b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"nix": 1}', b'{"name": "\\ud800"}', b"[" * 100_000, DEEP]


def test_malformed_json_is_the_clients_mistake(front: Front) -> None:
    for method in front.table.methods:
        rules = [rule for rule in method.signature.rules if rule.body] if method.handler else []
        for rule in rules[:1]:
            for body in NONSENSE:
                answer = front(rule.verb, url_of(rule), content=body, headers=front.bearer)
                assert answer.status_code < 500 or answer.status_code == 501, (
                    method.signature.path,
                    body[:40],
                    answer.text,
                )
    for verb, url in storage_urls(front):
        for body in NONSENSE:
            answer = front(verb, url, content=body, headers=front.bearer)
            assert answer.status_code < 500 or "XML" in answer.text, (verb, url, body[:40], answer.text)


def test_malformed_messages_are_the_clients_mistake(front: Front) -> None:
    bad = (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    for method in front.table.methods:
        if method.handler and not method.signature.streams:
            for request in (b"\xff\xff\xff", b"\x0a\x05abc"):
                assert front.rpc(method.signature.path, request) is grpc.StatusCode.INVALID_ARGUMENT
            assert front.rpc(method.signature.path) not in bad, method.signature.path


def test_what_nests_too_deeply_to_be_read_again_is_refused(front: Front) -> None:
    url = f"{API}/v1/projects/localvertex/locations/us-central1/metadataStores/default/artifacts"
    for depth, status in ((20, 200), (40, 400), (90, 400)):
        metadata: Any = 1
        for _ in range(depth):
            metadata = {"a": metadata}
        answer = front("POST", url, json={"metadata": metadata}, headers=front.bearer)
        assert answer.status_code == status, answer.text
    assert len(front("GET", url, headers=front.bearer).json()["artifacts"]) == 1


@pytest.mark.parametrize(
    "body",
    [
        {"sourceObjects": "a"},
        {"sourceObjects": ["a"]},
        {"sourceObjects": [{"name": 1}]},
        {"sourceObjects": [{"name": "there", "objectPreconditions": {"ifGenerationMatch": []}}]},
        {"sourceObjects": [{"name": "there"}], "destination": "x"},
        {"sourceObjects": [{"name": "there"}], "destination": {"contentType": "a\r\nX-Evil: 1"}},
        {"sourceObjects": [{"name": "there"}], "destination": {"metadata": {"a": 1}}},
    ],
)
def test_storage_requests_of_a_wrong_shape(front: Front, body: dict[str, Any]) -> None:
    upload = f"{STORAGE}/upload/storage/v1/b/shapes/o?uploadType=media&name=there"
    assert front("POST", upload, content=b"x", headers=front.bearer).status_code == 200
    answer = front("POST", f"{STORAGE}/storage/v1/b/shapes/o/new/compose", json=body, headers=front.bearer)
    assert answer.status_code == 400 and answer.json()["error"]["status"] == "INVALID_ARGUMENT"


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Buckets:
    home = Home(tmp_path_factory.mktemp("names") / "state").create()
    (home.path.parent / "secret").write_text("secret")
    return Buckets(home, Store.at(home.database))


segments = st.sampled_from(["..", ".", "", "a", "b", "%2e%2e", "\0", "a\\..\\b", "é", "~", "-rf", "x" * 256, "\ud800"])
object_names = st.one_of(st.text(max_size=80), st.lists(segments, min_size=1, max_size=6).map("/".join))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(object_names)
@example("../../secret")
@example("/etc/passwd")
@example("a/../../../secret")
@example("a/" * 511 + "ab")
@example("a/" * 600)
@example("line\nbreak")
@example("folder/")
@example("folder//")
def test_no_name_leaves_its_bucket(buckets: Buckets, name: str) -> None:
    """A name is refused, or is that of a file inside the bucket's folder that every call finds again by it."""
    folder = buckets.ensure("names").resolve()
    content = buckets.aside()
    content.write_bytes(b"content")
    try:
        written = buckets.put("names", name, content, {}, checksums=checksum_file(content))
    except (exceptions.InvalidArgument, exceptions.Conflict) as error:
        assert len(error.message) < 1000
    else:
        assert written.path.resolve().is_relative_to(folder) and written.path != folder
        assert [found.name for found in buckets.list("names", name).objects if found.name == name] == [name]
        assert buckets.get("names", name).generation == written.generation
        buckets.delete("names", name)
        assert buckets.find("names", name) is None
    finally:
        content.unlink(missing_ok=True)
    outside = buckets._home.path.parent
    assert sorted(path.name for path in outside.iterdir()) == ["secret", "state"]
    assert (outside / "secret").read_text() == "secret"


@pytest.mark.parametrize("name", ["..%2F..%2Fkeys%2Fca.key", "%2Fetc%2Fpasswd", "a%2F..%2F..%2Fx", "%00", "%2e%2e"])
def test_percent_encoding_hides_nothing(front: Front, name: str) -> None:
    front.services.buckets.ensure("encoded")
    for verb, url in (
        ("GET", f"{STORAGE}/storage/v1/b/encoded/o/{name}?alt=media"),
        ("DELETE", f"{STORAGE}/storage/v1/b/encoded/o/{name}"),
        ("POST", f"{STORAGE}/upload/storage/v1/b/encoded/o?uploadType=media&name={name}"),
    ):
        assert front(verb, url, content=b"x", headers=front.bearer).status_code == 400
    for bucket in ("..", "%2e%2e", "..%2Fkeys", "keys%2F.."):
        assert front("GET", f"{STORAGE}/storage/v1/b/{bucket}/o", headers=front.bearer).status_code in (400, 404)


def test_a_name_cannot_be_a_file_and_a_folder(front: Front) -> None:
    def upload(name: str) -> httpx.Response:
        url = f"{STORAGE}/upload/storage/v1/b/both/o?uploadType=media&name={name}"
        return front("POST", url, content=b"x", headers=front.bearer)

    before = sorted(front.home.uploads.iterdir())
    assert upload("a").status_code == 200
    for name in ("a/b", "a/b/c"):
        answer = upload(name)
        assert answer.status_code == 409 and "cannot be both a file and a folder" in answer.json()["error"]["message"]
    assert upload("d/e").status_code == 200
    assert upload("d").status_code == 409
    items = front("GET", f"{STORAGE}/storage/v1/b/both/o", headers=front.bearer).json()["items"]
    assert [item["name"] for item in items] == ["a", "d/e"]
    assert sorted(front.home.uploads.iterdir()) == before, "what was refused is not left behind"


@pytest.mark.parametrize("kind", ["media", "multipart", "resumable"])
def test_the_store_keeps_room_on_the_disk(front: Front, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    before = sorted(front.home.uploads.iterdir())
    url = f"{STORAGE}/upload/storage/v1/b/full/o?uploadType={kind}&name=x"
    headers = {**front.bearer, "Content-Type": "multipart/related; boundary=b"}
    if kind == "resumable":
        url = front("POST", url, headers=front.bearer).headers["location"]
    monkeypatch.setattr(uploads, "RESERVE", 1 << 60)
    answer = front("PUT" if kind == "resumable" else "POST", url, content=b"x" * 100, headers=headers)
    assert (answer.status_code, answer.json()["error"]["status"]) == (507, "RESOURCE_EXHAUSTED")
    assert "has no room for this" in answer.json()["error"]["message"]
    assert front.services.buckets.find("full", "x") is None
    assert sorted(front.home.uploads.iterdir()) == before, "nothing takes up the room that is wanting"


LIMITED_START = """
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (16 << 20, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
os.execv(sys.executable, [sys.executable, "-m", "localvertex", "start", *sys.argv[1:]])
"""

UPLOAD = """
import sys
from google.cloud import storage
blob = storage.Client().bucket("limited").blob("big")
try:
    blob.upload_from_string(b"x" * (24 << 20), checksum=None)
except Exception as error:
    print(type(error).__name__, error)
blob.bucket.blob("small").upload_from_string(b"fine")
print([each.name for each in storage.Client().list_blobs("limited")])
"""


def test_a_full_disk_is_one_clear_error_to_the_sdk(tmp_path: Path) -> None:
    """The server may write no file beyond 16 MiB: the kernel refuses as it does when a disk or a quota is full."""
    home = Home(tmp_path / "state")
    started = subprocess.run([sys.executable, "-c", LIMITED_START, f"--home={home.path}"], capture_output=True)
    assert started.returncode == 0, started.stderr
    try:
        running = daemon.find(home)
        assert running is not None
        environment = {**os.environ, **redirect_environment(home, running.port)}
        done = subprocess.run([sys.executable, "-c", UPLOAD], env=environment, capture_output=True, text=True)
    finally:
        daemon.stop(home)
    told, listed = done.stdout.splitlines()
    assert "507" in told and "has no room for this" in told, done.stderr
    assert listed == "['small']"
    assert not list(home.uploads.iterdir())
    for path in (home.keys, home.path):
        assert path.stat().st_mode & 0o777 == 0o700
    for key in ("ca.key", "service-account.json"):
        assert (home.keys / key).stat().st_mode & 0o777 == 0o600
    assert json.loads((home.keys / "service-account.json").read_text())["type"] == "service_account"
