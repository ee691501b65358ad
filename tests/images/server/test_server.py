"""Protects the prediction server: Vertex's contract, a clear message for each mistake, a graceful end."""

import base64
import contextlib
import http.server
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
from typing import ClassVar

import httpx
import pytest
import tensorflow as tf

from images.executor import UserError
from images.server import app as application
from images.server import storage
from images.server.servable import BadRequest, Servable


class Adder(tf.Module):
    """A model that is nobody's system: numbers, a table, bytes and a key."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, name="x"),
            tf.TensorSpec([None, 2], tf.int64, name="pair"),
            tf.TensorSpec([None], tf.string, name="key"),
        ]
    )
    def add(self, x, pair, key):
        """The sum of all three numbers; refuses a negative one."""
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, "x is negative")]):
            total = x + tf.cast(tf.reduce_sum(pair, axis=1), tf.float32)
        return {"total": total, "pair": pair, "key": tf.identity(key)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="data")])
    def reverse(self, data):
        """Bytes, backwards in pairs."""
        return {"doubled": tf.strings.join([data, data]), "length": tf.strings.length(data)}


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """A SavedModel with two signatures."""
    folder, module = tmp_path_factory.mktemp("adder"), Adder()
    signatures = {"serving_default": module.add, "reverse": module.reverse}
    tf.saved_model.save(module, str(folder), signatures=signatures)
    return folder


@pytest.fixture(scope="module")
def servable(saved_model):
    """The SavedModel, loaded as the server loads it."""
    return Servable(saved_model)


@pytest.fixture(scope="module")
def client(servable):
    """A client of the application, without a process between."""
    from starlette.testclient import TestClient

    return TestClient(application.app(servable, "/v1/health", "/v1/predict"))


GOOD = {"x": 1.5, "pair": [2, 3], "key": "a"}


def test_instances_are_answered_in_one_call_and_in_order(servable):
    answers = servable.predict([GOOD, {**GOOD, "x": 10, "key": "b"}])
    assert answers == [
        {"key": "a", "pair": [2, 3], "total": 6.5},
        {"key": "b", "pair": [2, 3], "total": 15.0},
    ]


def test_what_only_passes_through_may_be_left_out(servable):
    assert servable.predict([{"x": 0, "pair": [0, 1]}]) == [{"key": "", "pair": [0, 1], "total": 1.0}]


def test_bytes_go_in_and_out(servable):
    data = base64.b64encode(b"\xff\x00").decode()
    reverse = {"signature_name": "reverse"}
    assert servable.predict([{"data": {"b64": data}}, {"data": "ab"}], reverse) == [
        {"doubled": {"b64": base64.b64encode(b"\xff\x00\xff\x00").decode()}, "length": 2},
        {"doubled": "abab", "length": 2},
    ]
    assert servable.predict([{"b64": data}, "ab"], reverse)[1]["doubled"] == "abab"


@pytest.mark.parametrize(
    ("instances", "parameters", "message"),
    [
        (None, None, '"instances" must be a list of at least one instance'),
        ([], None, '"instances" must be a list'),
        ([GOOD, 3], None, "instance 1: must be an object with key, pair, x"),
        ([{**GOOD, "y": 1}], None, "instance 0: no input 'y'; the inputs are key, pair, x"),
        ([{"x": 1}], None, "instance 0: input 'pair' is missing"),
        ([GOOD, {**GOOD, "x": "one"}], None, "instance 1, input 'x': needs a number, got a string"),
        ([{**GOOD, "x": True}], None, "instance 0, input 'x': needs a number, got true or false"),
        ([{**GOOD, "x": None}], None, "instance 0, input 'x': needs a number, got null"),
        ([{**GOOD, "pair": [1, 2.5]}], None, "instance 0, input 'pair': needs a whole number, got 2.5"),
        ([{**GOOD, "pair": [1, 2, 3]}], None, "instance 0, input 'pair': shape (3,), needs (2,)"),
        ([{**GOOD, "pair": 1}], None, "instance 0, input 'pair': shape (), needs (2,)"),
        ([{**GOOD, "key": {"b64": "%"}}], None, "instance 0, input 'key': not base64"),
        ([{**GOOD, "key": {"b64": 7}}], None, "instance 0, input 'key': not base64"),
        ([{**GOOD, "key": {"c": 7}}], None, "instance 0, input 'key': needs a string"),
        ([{**GOOD, "pair": [1, 10**30]}], None, "input 'pair': "),
        ([GOOD, {**GOOD, "x": -1}], None, "instance 1: "),
        ([GOOD], {"signature_name": "beam"}, "no signature 'beam'; there are reverse, serving_default"),
        ([GOOD], {"signature_name": ["beam"]}, "no signature ['beam']"),
        ([GOOD], [], '"parameters" must be an object'),
    ],
)
def test_each_mistake_is_named_with_its_place(servable, instances, parameters, message):
    with pytest.raises(BadRequest) as error:
        servable.predict(instances, parameters)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_models_own_refusal_is_passed_on(servable):
    with pytest.raises(BadRequest, match="x is negative"):
        servable.predict([{**GOOD, "x": -1}])


def test_over_http(client):
    assert client.get("/v1/health").status_code == 200
    answer = client.post("/v1/predict", json={"instances": [GOOD]})
    assert (answer.status_code, answer.json()["predictions"][0]["total"]) == (200, 6.5)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"7", b"\xff", b'{"instances": 1}', b"[" * 100_000])
def test_a_body_that_is_no_request_is_400(client, body):
    answer = client.post("/v1/predict", content=body)
    assert answer.status_code == 400
    assert set(answer.json()) == {"error"}


def test_a_body_without_end_is_413(client, monkeypatch):
    monkeypatch.setattr(application, "MAX_BODY", 1000)
    answer = client.post("/v1/predict", content=(b" " * 100 for _ in range(1000)))
    assert answer.status_code == 413


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextlib.contextmanager
def running(saved_model, port):
    environment = {
        **os.environ,
        "AIP_STORAGE_URI": str(saved_model),
        "AIP_HTTP_PORT": str(port),
        "AIP_HEALTH_ROUTE": "/healthy",
        "AIP_PREDICT_ROUTE": "/ask",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "images.server"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            while process.poll() is None:
                with contextlib.suppress(httpx.TransportError):
                    if httpx.get(f"http://127.0.0.1:{port}/healthy").status_code == 200:
                        break
                time.sleep(0.1)
            yield process
        finally:
            process.kill()


def test_the_process_keeps_vertexs_contract_and_ends_gracefully(saved_model):
    port = free_port()
    with running(saved_model, port) as process:
        url = f"http://127.0.0.1:{port}/ask"
        assert httpx.post(url, json={"instances": [GOOD]}).json()["predictions"][0]["key"] == "a"
        many = {"instances": [GOOD] * 20_000}
        answers = []
        asking = threading.Thread(target=lambda: answers.append(httpx.post(url, json=many, timeout=None)))
        asking.start()
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        asking.join()
        process.wait()
        assert process.returncode == 0
        assert len(answers[0].json()["predictions"]) == 20_000
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"AIP_STORAGE_URI": ""}, "AIP_STORAGE_URI is not set"),
        ({"AIP_STORAGE_URI": "/absent"}, "AIP_STORAGE_URI=/absent: no saved_model.pb there"),
        ({"AIP_STORAGE_URI": "/absent", "AIP_HTTP_PORT": "x"}, "AIP_HTTP_PORT=x: must be a port number"),
    ],
)
def test_a_wrong_setting_is_one_line(stage, environment, message):
    made = stage("server", **environment)
    assert made.returncode == 2
    assert message in made.stderr
    assert len(made.stderr.splitlines()) == 1


class Bucket(http.server.BaseHTTPRequestHandler):
    """Cloud Storage's JSON API as far as reading goes, two objects a page."""

    objects: ClassVar[dict[str, bytes]] = {}

    def do_GET(self):
        """Answers a listing or a download."""
        url = urllib.parse.urlsplit(self.path)
        query = dict(urllib.parse.parse_qsl(url.query))
        name = urllib.parse.unquote(url.path.partition("/o/")[2])
        if not url.path.startswith("/b/bucket/o"):
            return self.send_error(404)
        body = self.objects[name] if name else json.dumps(self.page(query)).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def page(self, query):
        """One page of the listing."""
        names = sorted(name for name in self.objects if name.startswith(query["prefix"]))
        start = int(query.get("pageToken", 0))
        page = {"items": [{"name": name} for name in names[start : start + 2]]}
        return page | ({"nextPageToken": str(start + 2)} if start + 2 < len(names) else {})

    def log_message(self, *_):
        """Says nothing."""


@pytest.fixture
def bucket(monkeypatch):
    """The objects of a bucket that a real server on this machine serves to real sessions."""
    import google.auth
    from google.auth.credentials import AnonymousCredentials

    names = (
        "saved_model.pb",
        "variables/variables.index",
        "variables/variables.data-00000-of-00001",
        "assets/",
    )
    objects = {f"run/model/{name}": name.encode() for name in names} | {"run/model2/other": b""}
    monkeypatch.setattr(Bucket, "objects", objects)
    monkeypatch.setattr(google.auth, "default", lambda scopes: (AnonymousCredentials(), "project"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bucket) as server:
        monkeypatch.setattr(storage, "API", f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield objects
        server.shutdown()


def test_a_model_in_a_bucket_is_downloaded(bucket, tmp_path):
    assert storage.fetch("gs://bucket/run/model", tmp_path) == tmp_path
    found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["saved_model.pb", "variables/variables.data-00000-of-00001", "variables/variables.index"]
    assert (tmp_path / "variables" / "variables.index").read_bytes() == b"variables/variables.index"


def test_a_bucket_without_a_model_is_named(bucket, tmp_path):
    with pytest.raises(UserError, match="gs://bucket/elsewhere: no saved_model"):
        storage.fetch("gs://bucket/elsewhere", tmp_path)


def test_an_object_cannot_be_written_outside_the_folder(bucket, tmp_path):
    bucket["run/model/../../escaped"] = b"x"
    with pytest.raises(UserError, match="outside the model's folder"):
        storage.fetch("gs://bucket/run/model", tmp_path / "a" / "b")


def test_a_bucket_that_is_not_ours_is_named(bucket, tmp_path):
    with pytest.raises(UserError, match="gs://other/model: cannot be read, HTTP 404"):
        storage.fetch("gs://other/model", tmp_path)
