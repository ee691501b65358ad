"""Protects who is answering: a version takes over only after its smoke predictions, and else changes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.conftest import LOCATION, PROJECT, LocalVertex, run_command

IMAGE = "example.test/pipelines/server:1"
# Answers every instance with the name of the folder that its model is in.
SERVER = """
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def answer(self, body):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self):
        self.answer({})

    def do_POST(self):
        instances = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["instances"]
        name = os.environ["AIP_STORAGE_URI"].rpartition("/")[2]
        self.answer({"predictions": [{"text": name, "confidence": 0.5} for _ in instances]})

HTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
"""
STATE = """
import json
from google.cloud import aiplatform
aiplatform.init(project="localvertex", location="us-central1")
print(json.dumps({
    endpoint.display_name: {
        "traffic": sorted(endpoint.traffic_split.values()),
        "versions": sorted(f"{one.model}@{one.model_version_id}" for one in endpoint.list_models()),
        "answer": endpoint.predict(instances=["x"]).predictions[0]["text"],
    }
    for endpoint in aiplatform.Endpoint.list()
}))
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LocalVertex]:
    """A server of its own, whose table says what answers for the serving image."""
    home = tmp_path / "state"
    home.mkdir()
    serve = json.dumps(["python", "-c", SERVER])
    (home / "localvertex.toml").write_text(f'[[image]]\npattern = "*/server:*"\nserve = {serve}\n')
    started = run_command(home, "start")
    assert started.returncode == 0, started.stderr
    yield LocalVertex(home, json.loads(run_command(home, "env", "--json").stdout))
    assert run_command(home, "stop").returncode == 0


def deploy(server: LocalVertex, folder: Path, name: str, expected: str) -> subprocess.CompletedProcess[str]:
    """Runs the deploy stage by hand for the model folder `gs://models/<name>`."""
    (server.home / "gcs" / "models" / name).mkdir(parents=True, exist_ok=True)
    (server.home / "gcs" / "models" / name / "saved_model.pb").write_text(name)
    smoke = folder / "smoke"
    smoke.mkdir(exist_ok=True)
    line = {"instance": {"key": "a"}, "truth": "t", "answer": "text", "expected": {"text": expected, "confidence": 0.5}}
    (smoke / "smoke.jsonl").write_text(json.dumps(line) + "\n")
    (folder / "metrics").write_text(json.dumps({"cer": 0.02}))
    flags = {
        "project": PROJECT,
        "location": LOCATION,
        "model_name": "reader",
        "endpoint_name": "reader",
        "serving_image": IMAGE,
        "machine_type": "n1-standard-2",
        "saved_model_uri": f"gs://models/{name}",
        "smoke": str(smoke),
        "metrics": str(folder / "metrics"),
        "predictions": str(folder / "predictions"),
    }
    return subprocess.run(
        [sys.executable, "-m", "images.launcher.deploy", *(f"--{flag}={value}" for flag, value in flags.items())],
        env={**os.environ, **server.environment},
        capture_output=True,
        text=True,
    )


def test_versions_take_over_only_when_they_answer_as_expected(server: LocalVertex, tmp_path: Path) -> None:
    first = deploy(server, tmp_path, "v1", "v1")
    assert first.returncode == 0, first.stderr
    second = deploy(server, tmp_path, "v2", "v2")
    assert second.returncode == 0, second.stderr
    after_second = json.loads(server.python(STATE))
    assert set(after_second) == {"reader"}, "the candidate endpoint was left behind"
    assert after_second["reader"]["traffic"] == [100]
    assert [version.rpartition("@")[2] for version in after_second["reader"]["versions"]] == ["2"]
    assert after_second["reader"]["answer"] == "v2"

    third = deploy(server, tmp_path, "v3", "something else")
    assert third.returncode != 0
    assert "keeps its traffic where it was" in third.stderr
    assert "Traceback" not in third.stderr
    assert json.loads(server.python(STATE)) == after_second
