"""Protects what the launchers see of the service: the source as it is, and the log of a task that failed."""

from typing import Any

import pytest

from images.executor import UserError
from images.launcher import notify
from images.launcher.rest import Vertex
from images.launcher.snapshot import STORAGE, snapshot
from tests.contract.conftest import LOCATION, PROJECT, LocalVertex

BUCKET = "growing"
ROOT = f"gs://{BUCKET}/pipelines"
UPLOAD = STORAGE.replace("/storage/", "/upload/storage/")


@pytest.fixture
def vertex(localvertex: LocalVertex) -> Vertex:
    return Vertex(PROJECT, LOCATION)


def put(vertex: Vertex, name: str, content: Any) -> None:
    vertex.call("POST", f"{UPLOAD}/{BUCKET}/o", content, uploadType="media", name=name)


def test_a_source_that_grows_is_a_new_snapshot_and_one_that_does_not_is_the_same(vertex: Vertex) -> None:
    vertex.call("POST", STORAGE, {"name": BUCKET}, project=PROJECT)
    with pytest.raises(UserError, match="there is nothing"):
        snapshot(vertex, "grown", f"gs://{BUCKET}/incoming", ROOT)
    put(vertex, "incoming/a/one.csv", {"one": 1})
    first = snapshot(vertex, "grown", f"gs://{BUCKET}/incoming", ROOT)
    assert first == snapshot(vertex, "grown", f"gs://{BUCKET}/incoming/", ROOT).__class__(
        first.uri, f"gs://{BUCKET}/incoming", 1, first.bytes, ""
    )
    put(vertex, "incoming/two.csv", {"two": 2})
    second = snapshot(vertex, "grown", f"gs://{BUCKET}/incoming", ROOT)
    assert (first.files, second.files) == (1, 2)
    assert first.uri != second.uri
    prefix = first.uri.removeprefix(f"gs://{BUCKET}/") + "/"
    kept = [each["name"] for each in vertex.pages(f"{STORAGE}/{BUCKET}/o", "items", prefix=prefix)]
    assert kept == [f"{prefix}a/one.csv"], "a snapshot must stay what it was"
    again = snapshot(vertex, "grown", second.uri, ROOT)
    assert again.uri == second.uri, "a snapshot is its own snapshot"
    assert again.told.startswith("new data: ")


def test_a_failed_task_is_told_with_the_last_lines_of_its_log(vertex: Vertex, tmp_path: Any) -> None:
    from google.cloud import aiplatform
    from kfp import compiler, dsl

    @dsl.container_component
    def broken() -> dsl.ContainerSpec:
        return dsl.ContainerSpec(
            image="example.test/tool:1", command=["python", "-c", "print('why it broke'); raise SystemExit(3)"]
        )

    @dsl.pipeline(name="alarming")
    def alarming() -> None:
        broken()

    compiler.Compiler().compile(alarming, str(tmp_path / "spec.json"))
    job = aiplatform.PipelineJob(
        display_name="alarming",
        template_path=str(tmp_path / "spec.json"),
        pipeline_root=ROOT,
        project=PROJECT,
        location=LOCATION,
    )
    job.submit()
    with pytest.raises(RuntimeError):
        job.wait()
    found = notify.record(vertex, {"state": "FAILED", "pipelineJobResourceName": job.resource_name})
    assert (found.kind, found.pipeline, found.task) == ("failure", "alarming", "broken")
    assert list(found.log) == ["why it broke"]
    assert job.job_id in found.command
