"""Protects what is decided without an engine: the images that a run needs, what Cloud Build is told, what is pushed."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import docker
import pytest
import yaml

from pipelines import UserError
from pipelines.cli import compile, engine, images
from pipelines.cli import registry as registry_client
from pipelines.cli.registry import Registry
from pipelines.cli.targets import ServiceError

DIGEST = "sha256:" + "a" * 64
PARSE = """
import json, sys
sys.path[:0] = [f"{sys.argv[1]}/lib", f"{sys.argv[1]}/lib/third_party"]
from googlecloudsdk.api_lib.cloudbuild import cloudbuild_util, config
build = config.LoadCloudbuildConfigFromPath(sys.argv[2], cloudbuild_util.GetMessagesModule())
steps = [[step.name, step.id, list(step.waitFor), list(step.env), list(step.args)] for step in build.steps]
print(json.dumps([steps, list(build.images), build.timeout]))
"""


@pytest.fixture(scope="module")
def everything() -> list[images.Wanted]:
    return images.wanted()


def test_every_image_has_the_names_of_its_stages(everything: list[images.Wanted]) -> None:
    stages = {each.image: set(each.names.values()) for each in everything}
    assert stages.keys() == {"trainer", "launcher", "server"}
    assert stages["trainer"] >= {"crnn-train", "iris-compare", "mnist-skew"} and "crnn-serve" in stages["server"]
    assert {stage.partition("-")[0] for stage in stages["launcher"]} == set(compile.systems())
    assert all(name.rsplit("/", 1)[1].startswith(f"{each.image}:") for each in everything for name in each.names)


def test_an_image_that_does_not_exist_is_told() -> None:
    with pytest.raises(UserError, match="IMAGE=trainr: no such image; did you mean trainer"):
        images.wanted("trainr")


def test_a_run_needs_the_images_that_its_pipeline_names(everything: list[images.Wanted]) -> None:
    trainer = next(each for each in everything if each.image == "trainer")
    ingest, train = (next(n for n, s in trainer.names.items() if s == f"crnn-{stage}") for stage in ("ingest", "train"))
    spec = {"executors": [{"image": ingest}, {"args": [json.dumps({"imageUri": train})]}]}
    assert [each.names for each in images.of_pipeline(spec)] == [{ingest: "crnn-ingest", train: "crnn-train"}]
    cpu, gpu = images.of_pipeline(spec, "-gpu")
    assert (cpu.device, gpu.device, gpu.names) == ("cpu", "gpu", {f"{train}-gpu": "crnn-train"})
    assert gpu.arguments["DEVICE"] == "gpu"


def test_other_devices_have_an_image_of_the_trainer_alone() -> None:
    (tpu,) = images.wanted(device="tpu")
    assert tpu.image == "trainer" and all(name.endswith("-tpu") for name in tpu.names)
    assert images.wanted("server", "tpu") == []


def test_cloud_build_is_told_of_every_name(everything: list[images.Wanted]) -> None:
    told = images.cloudbuild(everything)
    assert told["images"] == sorted(name for each in everything for name in each.names)
    for step, each in zip(told["steps"], everything, strict=True):
        assert f"--file=images/{each.image}/Dockerfile" in step["args"]
        assert {word for word in step["args"] if word.startswith("--tag=")} == {f"--tag={name}" for name in each.names}
    # The steps need not wait for each other.
    assert len({step["id"] for step in told["steps"]}) == 3 and all(step["waitFor"] == ["-"] for step in told["steps"])


def test_gcloud_itself_reads_of_the_file_all_that_is_in_it(everything: list[images.Wanted], tmp_path: Path) -> None:
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        pytest.skip("gcloud is not installed")
    told = images.cloudbuild(everything)
    (tmp_path / "cloudbuild.yaml").write_text(yaml.safe_dump(told, sort_keys=False))
    sdk = Path(gcloud).resolve().parents[1]
    # Its own parser, which refuses every field and type that the message of the API lacks.
    command = [sys.executable, "-S", "-c", PARSE, str(sdk), str(tmp_path / "cloudbuild.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fields = ("name", "id", "waitFor", "env", "args")
    steps = [[step[field] for field in fields] for step in told["steps"]]
    assert json.loads(done.stdout) == [steps, told["images"], told["timeout"]]
    # What is to be substituted starts so; nothing is.
    assert "$" not in json.dumps(told)


def test_what_is_not_committed_is_pushed_on_demand_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(images.compile, "ROOT", tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    (tmp_path / "images").mkdir()
    images.check_committed(dirty=False)
    (tmp_path / "images" / "new.py").touch()
    with pytest.raises(UserError, match="in images/ is not committed; commit it, or push all the same with DIRTY=1"):
        images.check_committed(dirty=False)
    images.check_committed(dirty=True)


class _OneTag(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        status = {"/v2/p/trainer/manifests/there": 200, "/v2/p/trainer/manifests/secret": 403}.get(self.path, 404)
        self.send_response(status)
        self.send_header("Docker-Content-Digest", DIGEST)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def registry() -> Iterator[Registry]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _OneTag) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Registry(f"127.0.0.1:{server.server_port}/p")
        server.shutdown()


def test_a_registry_says_what_it_has(registry: Registry) -> None:
    assert registry.digest("trainer", "there") == DIGEST
    assert registry.digest("trainer", "missing") is None
    with pytest.raises(ServiceError, match="HTTP 403 for trainer:secret"):
        registry.digest("trainer", "secret")


def test_a_registry_that_is_not_there_is_told() -> None:
    with pytest.raises(ServiceError, match=r"registry 127\.0\.0\.1:1: "):
        Registry("127.0.0.1:1/p").digest("trainer", "there")


@pytest.fixture
def silent() -> Iterator[str]:
    """An address where connections are taken, and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"127.0.0.1:{listening.getsockname()[1]}"


def test_a_registry_that_stops_answering_is_told(silent: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_client, "TIMEOUT", 0.1)
    with pytest.raises(ServiceError, match=f"^registry {silent}: timed out"):
        Registry(f"{silent}/p").digest("trainer", "there")


def test_an_engine_that_stops_answering_is_told(silent: str) -> None:
    client = docker.DockerClient(f"tcp://{silent}", version="1.41", timeout=0.1)
    with pytest.raises(ServiceError, match="the Docker engine stopped answering"), engine.answering():
        client.ping()
    client.close()


def test_no_engine_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(UserError, match="no Docker engine answers"):
        engine.connect()
    command = [sys.executable, "-m", "pipelines", "images"]
    done = subprocess.run(command, cwd=images.compile.ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith("error: no Docker engine answers")


def test_builds_are_told_of_package_indexes_in_files_that_are_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://index.test/simple file:///opt/packages")
    with engine._secrets() as secrets:
        text = secrets["pip"].read_text()
        assert "extra-index-url = https://index.test/simple\n" in text
        assert secrets["pip"].parent.stat().st_mode & 0o077 == 0
    assert not secrets["pip"].exists() and not secrets["certificates"].exists()
