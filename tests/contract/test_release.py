"""Protects who is answering: only what is fit takes over, and no kill or failure is ever seen by a client."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from images.executor import UserError
from images.launcher import api, canary, champion, deploy, registry, rest, rollback
from images.launcher.endpoints import Endpoint
from tests.contract.conftest import LOCATION, PROJECT, run_command

IMAGE = "example.test/pipelines/server:1"
# Answers with what stands in its model's file; at the endpoint named there, wrongly, slowly or not at all.
SERVER = """
import json, os, pathlib, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

bucket, _, name = os.environ["AIP_STORAGE_URI"].removeprefix("gs://").partition("/")
model = json.loads((pathlib.Path(os.environ["TEST_GCS"]) / bucket / name / "saved_model.pb").read_text())

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        instances = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["instances"]
        here = os.environ["AIP_ENDPOINT_ID"] == model.get("endpoint")
        time.sleep(model.get("slow", 0) if here else 0)
        text = model.get("wrong", model["text"]) if here else model["text"]
        self.answer(200, {"predictions": [{"text": text, "confidence": 0.5} for _ in instances]})

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["AIP_HTTP_PORT"])), Handler).serve_forever()
"""
# Predicts all the time, leaving the cores to others between two questions, and writes each answer down.
CLIENT = """
import sys, pathlib, time
from images.launcher.endpoints import Endpoint
from images.launcher.rest import Vertex

endpoint = Endpoint.find(Vertex(*sys.argv[1:3]), "reader")
with open(sys.argv[3], "a", buffering=1) as file:
    while not pathlib.Path(sys.argv[3] + ".stop").exists():
        answer = endpoint.ask([{"key": "a"}])
        file.write(f"{answer.error or answer.predictions[0]['text']}\\n")
        time.sleep(0.01)
"""


@dataclass
class Bench:
    """A server that this process is redirected to, and the stages of a release run against it."""

    home: Path

    @property
    def vertex(self) -> rest.Vertex:
        return rest.Vertex(PROJECT, LOCATION)

    def model(self, name: str, **more: Any) -> None:
        """Writes what stands for a SavedModel."""
        folder = self.home / "gcs" / "models" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "saved_model.pb").write_text(json.dumps({"text": name, **more}))

    def look(self, name: str) -> champion.Found:
        """What the champion stage says to a challenger."""
        return champion.look(self.vertex, "reader", "reader", f"gs://models/{name}", IMAGE)

    def deploy(self, name: str, passed: bool = True) -> deploy.Outcome:
        """Runs the champion and the deploy stage for a model that was found fit, or not."""
        found = self.look(name)
        expected = {"text": name, "confidence": 0.5}
        plan = deploy.Plan(
            model_name="reader",
            endpoint_name="reader",
            saved_model_uri=f"gs://models/{name}",
            serving_image=IMAGE,
            machine_type="n1-standard-2",
            canary_share=30,
            logged_share=0.0,
            champion=found.champion,
            attempt=found.attempt,
            samples=[{"instance": {"key": "a"}, "truth": "t", "answer": "text", "expected": expected}],
            metrics={"cer": 0.02},
            verdict={"passed": passed, "reason": "because of the test"},
        )
        return deploy.release(self.vertex, plan)

    def deploy_and_kill(self, name: str, number: int) -> bool:
        """Runs it in a process that ends itself after its nth call that changes anything.

        Returns:
            Whether it came to that call.
        """
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                rest.Session.call = dying(rest.Session.call, number)  # type: ignore[method-assign]
                self.deploy(name)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL

    def rollback(self) -> None:
        rollback.rollback(self.vertex, "reader", "reader", "n1-standard-2")

    def shares(self) -> dict[str, dict[str, int]]:
        """Traffic by version number, of each endpoint."""
        found = self.vertex.every(f"{self.vertex.parent}/endpoints", "endpoints")
        return {
            each["displayName"]: {
                one.version.rpartition("@")[2]: one.share for one in Endpoint(self.vertex, each["name"]).deployed()
            }
            for each in found
        }

    def version(self, name: str) -> registry.Version:
        versions = registry.Registry(self.vertex, "reader").versions()
        return next(each for each in versions if each.uri.endswith(f"/{name}"))

    def serving(self) -> str:
        """The model that alone serves, is crowned, and left nothing else behind."""
        endpoints = self.shares()
        assert list(endpoints) == ["reader"], "a candidate endpoint was left behind"
        ((number, share),) = endpoints["reader"].items()
        assert share == 100
        versions = registry.Registry(self.vertex, "reader").versions()
        found = next(each for each in versions if each.number == number)
        assert {"champion", "default"} <= set(found.aliases)
        assert found.labels["release_verdict"] == "promoted"
        return found.uri.rpartition("/")[2]


def dying(call: Callable[..., Any], number: int) -> Callable[..., Any]:
    """`call`, but it ends the process once the service has taken the nth call that changes anything."""
    changes = 0

    def counted(self: rest.Session, method: str, url: str, *args: Any, **query: str) -> Any:
        nonlocal changes
        answer = call(self, method, url, *args, **query)
        changes += method != "GET" and not url.endswith(":predict")
        if changes == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    return counted


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A server of its own with a first release, and a client that never stops asking."""
    folder = tmp_path_factory.mktemp("release")
    home, answers = folder / "state", folder / "answers"
    home.mkdir()
    serve = json.dumps(["python", "-c", SERVER])
    (home / "localvertex.toml").write_text(f'[[image]]\npattern = "*/server:*"\nserve = {serve}\n')
    started = run_command(home, "start", TEST_GCS=str(home / "gcs"))
    assert started.returncode == 0, started.stderr
    with pytest.MonkeyPatch.context() as patch:
        for name, value in json.loads(run_command(home, "env", "--json").stdout).items():
            patch.setenv(name, value)
        patch.setattr(canary, "ENOUGH", 5)
        patch.setattr(canary, "PATIENCE", 20)
        patch.setattr(deploy, "BEFORE", 10)
        patch.setattr(api, "FIRST_WAIT", 0.05)
        made = Bench(home)
        made.model("v1")
        made.deploy("v1")
        client = subprocess.Popen([sys.executable, "-c", CLIENT, PROJECT, LOCATION, str(answers)])
        while not answers.exists() or not answers.stat().st_size:
            assert client.poll() is None
            time.sleep(0.1)
        yield made
        Path(f"{answers}.stop").touch()
        assert client.wait() == 0
    assert run_command(home, "stop").returncode == 0
    asked = answers.read_text().splitlines()
    right = {"v1", "v2", "slow", *(f"k{number}" for number in range(99))}
    strange = [answer for answer in asked if answer not in right]
    assert not strange, f"of {len(asked)} answers, {len(strange)} are failures or wrong; first: {strange[0]}"


def test_the_first_is_released_and_then_nothing_is_new(bench: Bench) -> None:
    assert bench.serving() == "v1"
    first, again = bench.look("v1"), bench.look("v1")
    assert first == again, "an unchanged endpoint must not begin another attempt"
    assert first.champion == "", "the first was compared with none, and still is"


def test_a_better_one_takes_over_and_goes_back(bench: Bench) -> None:
    bench.model("v2")
    assert bench.deploy("v2").outcome == "promoted"
    assert bench.serving() == "v2"
    attempt = bench.look("v2").attempt
    bench.rollback()
    assert bench.serving() == "v1"
    assert bench.look("v2").attempt != attempt, "a deployment that was undone must not be taken from the cache"
    assert (bench.deploy("v2").outcome, bench.serving()) == ("withdrawn", "v1")
    bench.rollback()
    assert bench.serving() == "v2"
    assert (bench.deploy("v2").outcome, bench.serving()) == ("promoted", "v2")


def test_a_worse_one_is_refused_and_noted(bench: Bench) -> None:
    before = bench.serving()
    bench.model("worse")
    outcome = bench.deploy("worse", passed=False)
    assert (outcome.outcome, outcome.reason) == ("refused", "because of the test")
    assert bench.serving() == before
    assert bench.version("worse").aliases == ("challenger",)
    assert bench.version("worse").labels["release_verdict"] == "refused"
    assert bench.look("worse") == bench.look("worse"), "a refusal stands while the champion is the same"


def test_one_that_answers_otherwise_reaches_no_client(bench: Bench) -> None:
    before = bench.serving()
    bench.model("liar", text="nonsense")
    with pytest.raises(UserError, match="keeps its traffic where it was"):
        bench.deploy("liar")
    assert bench.serving() == before


def test_one_that_is_slow_under_load_is_rolled_back(bench: Bench) -> None:
    before = bench.serving()
    endpoint = Endpoint.find(bench.vertex, "reader")
    assert endpoint is not None
    bench.model("slow", slow=2, endpoint=endpoint.name.rpartition("/")[2])
    with pytest.raises(UserError, match=r"is rolled back, .* half of its answers took more than"):
        bench.deploy("slow")
    assert bench.serving() == before


def test_no_kill_leaves_the_endpoint_mute_and_the_next_run_arrives(bench: Bench) -> None:
    """After every call of a release that changes anything, in turn; what it has begun goes on without it."""
    for number in range(1, 40):
        before, name = bench.serving(), f"k{number}"
        bench.model(name)
        if not bench.deploy_and_kill(name, number):
            assert number > 8, "a release makes more changes than were tried"
            assert bench.serving() == name
            return
        assert sum(bench.shares()["reader"].values()) == 100
        assert bench.deploy(name).outcome == "promoted"
        assert bench.serving() == name != before
