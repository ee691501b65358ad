"""Protects admission: what Vertex AI refuses, or the engine cannot do, is refused at submit by name and place."""

import copy
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import CreatePipelineJobRequest
from kfp import dsl

from tests.localvertex.engine.pieces import say, show, write
from tests.localvertex.engine.support import Bench, compiled


@dsl.pipeline(name="admitted")
def admitted(
    text: str,
    count: int = 1,
    share: float = 0.5,
    items: list = [],  # noqa: B006
    table: dict = {},  # noqa: B006
    flag: bool = False,
) -> None:
    with dsl.If(count == 1):
        show(source=write(text=text).output)


@pytest.fixture
def spec(bench: Bench) -> dict[str, Any]:
    return compiled(admitted, bench.folder / "spec.json")


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({}, "parameter text is required"),
        ({"text": "a", "txet": "b"}, "parameter txet is not found in the pipeline job input definitions"),
        ({"text": 5}, "parameter text has the wrong type: expected STRING, got NUMBER 5"),
        ({"text": "a", "count": "5"}, "parameter count has the wrong type: expected NUMBER_INTEGER, got STRING"),
        ({"text": "a", "count": 1.5}, "parameter count has the wrong type: expected NUMBER_INTEGER, got NUMBER 1.5"),
        ({"text": "a", "flag": 1}, "parameter flag has the wrong type: expected BOOLEAN"),
        ({"text": "a", "items": {}}, "parameter items has the wrong type: expected LIST, got STRUCT"),
        ({"text": "a", "table": "{}"}, "parameter table has the wrong type: expected STRUCT, got STRING"),
    ],
)
def test_parameters_are_checked(bench: Bench, spec: dict[str, Any], parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=told):
        bench.submit(spec, parameters=parameters)


def test_whole_numbers_are_accepted_for_both_kinds_of_number(bench: Bench, spec: dict[str, Any]) -> None:
    result = bench.run(spec, parameters={"text": "a", "count": 2, "share": 3})
    assert result.state == "SUCCEEDED"


@pytest.mark.parametrize("root", ["", "/tmp/x", "gs://", "gs://Bad_Bucket", "s3://bucket"])
def test_the_root_must_be_a_bucket(bench: Bench, spec: dict[str, Any], root: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=r"gcs_output_directory.*gs://bucket"):
        bench.submit(spec, parameters={"text": "a"}, gcsOutputDirectory=root)


@pytest.mark.parametrize("id", ["Upper", "1st", "under_score", "x" * 129])
def test_ids_are_checked(bench: Bench, spec: dict[str, Any], id: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="not a valid ID"):
        bench.submit(spec, id, {"text": "a"})


def test_labels_are_checked(bench: Bench, spec: dict[str, Any]) -> None:
    job = bench.job(spec, {"text": "a"})
    job.labels = {"Owner": "me"}
    with pytest.raises(exceptions.InvalidArgument, match="labels: 'Owner: me' is not valid"):
        bench.service.create_pipeline_job(CreatePipelineJobRequest(parent=bench.parent, pipeline_job=job))


def test_an_id_is_made_of_the_pipeline_name_and_the_time_and_can_be_used_once(
    bench: Bench, spec: dict[str, Any]
) -> None:
    name = bench.submit(spec, parameters={"text": "a"})
    assert name.split("/")[-1].startswith("admitted-2")
    with pytest.raises(exceptions.AlreadyExists):
        bench.submit(spec, name.split("/")[-1], {"text": "a"})
    bench.engine.join(name)


def _at(spec: dict[str, Any], path: str) -> Any:
    found: Any = spec
    for step in path.split("."):
        found = found[step]
    return found


@pytest.mark.parametrize(
    ("place", "entry", "told"),
    [
        ("root.dag.tasks.condition-1.triggerPolicy", {"condition": "inputs =="}, "condition-1: .* is not valid CEL"),
        ("root.dag.tasks.condition-1", {"hovering": True}, "root.dag.tasks.condition-1: field 'hovering'"),
        ("root.dag.tasks.condition-1.componentRef", {"name": "comp-none"}, "there is no component 'comp-none'"),
        ("root.dag.tasks.condition-1", {"dependentTasks": ["none"]}, "no upstream task 'none'"),
        ("root.dag.tasks.condition-1", {"dependentTasks": ["condition-1"]}, "in a circle"),
        ("components.comp-show", {"executorLabel": "exec-none"}, "there is no executor 'exec-none'"),
        ("deploymentSpec.executors.exec-show", {"resolver": {}}, "exec-show: field 'resolver' is not supported"),
        ("deploymentSpec.executors.exec-show.container", {"lifecycle": {}}, "container: field 'lifecycle'"),
        ("deploymentSpec.executors.exec-show.container", {"command": []}, "the container has no command"),
        (
            "deploymentSpec.executors.exec-show.container",
            {"args": ["{{$.nothing}}"]},
            r"placeholder \{\{\$.nothing\}\}",
        ),
        (
            "components.comp-condition-1.dag.tasks.show",
            {"componentRef": {"name": "comp-condition-1"}},
            "contains itself",
        ),
    ],
)
def test_what_cannot_run_is_refused_with_its_place(
    bench: Bench, spec: dict[str, Any], place: str, entry: dict[str, Any], told: str
) -> None:
    broken = copy.deepcopy(spec)
    _at(broken, place).update(entry)
    with pytest.raises(exceptions.InvalidArgument, match=told):
        bench.submit(broken, parameters={"text": "a"})


def test_pipelines_of_another_schema_are_refused(bench: Bench, spec: dict[str, Any]) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="schemaVersion"):
        bench.submit({**spec, "schemaVersion": "1.0"}, parameters={"text": "a"})
    assert say
