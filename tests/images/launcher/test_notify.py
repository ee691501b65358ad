"""Protects the alarm: it says what failed and where to look, arrives at a busy receiver, and keeps its secret."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from images.executor import UserError
from images.launcher import notify

RUN = "projects/p/locations/l/pipelineJobs/iris-1"


class Receiver(http.server.HTTPServer):
    """Answers as it is told, and keeps what it gets."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list[int] = []
        self.got: list[tuple[str, dict[str, Any]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook?token=hidden"


class Handler(http.server.BaseHTTPRequestHandler):
    """One request."""

    server: Receiver

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.got.append((self.headers.get("Authorization", ""), body))
        self.send_response(self.server.answers.pop(0) if self.server.answers else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(notify, "PAUSE", 0.01)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def test_a_busy_receiver_is_asked_again_and_gets_the_secret_in_the_header(receiver: Receiver) -> None:
    receiver.answers = [503, 429]
    notify.post(receiver.url, {"kind": "failure"}, "s3cret")
    assert receiver.got == [("Bearer s3cret", {"kind": "failure"})] * 3


def test_a_receiver_that_refuses_is_not_asked_again_and_nothing_secret_is_told(receiver: Receiver) -> None:
    receiver.answers = [403]
    with pytest.raises(UserError, match="403 Forbidden") as refused:
        notify.post(receiver.url, {}, "s3cret")
    assert len(receiver.got) == 1
    assert "s3cret" not in str(refused.value) and "hidden" not in str(refused.value)


class Vertex:
    """Gives a run as the service would."""

    def __init__(self, *details: dict[str, Any]) -> None:
        root = {"taskId": "0", "taskName": "iris-1", "state": "RUNNING"}
        self._job = {
            "pipelineSpec": {"pipelineInfo": {"name": "iris"}},
            "jobDetail": {"taskDetails": [root, *details]},
        }

    def get(self, name: str) -> dict[str, Any]:
        assert name == RUN
        return self._job

    def call(self, method: str, url: str, body: dict[str, Any]) -> dict[str, Any]:
        assert 'resource.labels.job_id="77"' in body["filter"]
        return {"entries": [{"textPayload": "last"}, {"textPayload": "first"}]}


GROUP = {"taskId": "1", "taskName": "exit-handler-1", "parentTaskId": "0", "state": "FAILED"}
FAILED = {
    "taskId": "2",
    "taskName": "train",
    "parentTaskId": "1",
    "state": "FAILED",
    "error": {"message": "exit\ncode 2"},
    "executorDetail": {"containerDetail": {"mainJob": "projects/p/locations/l/customJobs/77"}},
}


def told(vertex: Vertex, state: str) -> notify.Record:
    return notify.record(vertex, {"state": state, "pipelineJobResourceName": RUN})  # type: ignore[arg-type]


def test_a_failure_is_told_with_its_log_and_where_to_look() -> None:
    found = told(Vertex(GROUP, FAILED), "FAILED")
    assert (found.kind, found.pipeline, found.task) == ("failure", "iris", "exit-handler-1.train")
    assert found.message == "exit code 2"
    assert found.log == ["first", "last"]
    assert found.command == "make logs JOB=iris-1 TASK=exit-handler-1.train"


def test_drift_is_told_though_the_run_succeeded() -> None:
    metrics = {"schemaTitle": "system.Metrics", "metadata": {"passed": False}}
    skew = {"taskId": "2", "taskName": "skew", "parentTaskId": "0", "state": "SUCCEEDED"}
    skew["outputs"] = {"metrics": {"artifacts": [metrics]}}  # type: ignore[assignment]
    found = told(Vertex(skew), "SUCCEEDED")
    assert (found.kind, found.task) == ("drift", "skew")


def test_nothing_is_told_of_a_run_that_went_well() -> None:
    passed = {"schemaTitle": "system.Metrics", "metadata": {"passed": True}}
    detail = {"taskId": "2", "taskName": "skew", "parentTaskId": "0", "state": "SUCCEEDED"}
    detail["outputs"] = {"metrics": {"artifacts": [passed]}}  # type: ignore[assignment]
    assert told(Vertex(detail), "SUCCEEDED").kind == "ok"
