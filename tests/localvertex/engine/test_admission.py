"""Protects admission: what Vertex AI refuses, or the engine cannot do, is refused at submit by name and place."""

import copy
import functools
from collections.abc import Iterator
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import CreatePipelineJobRequest
from kfp import dsl

from localvertex.engine.admission import admit
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


@pytest.mark.parametrize(
    "root",
    [
        "",
        "/tmp/x",
        "gs://",
        "gs://Bad_Bucket",
        "s3://bucket",
        "gs://ab",
        "gs://a..b",
        f"gs://{'x' * 64}/y",
        "gs://b-/y",
    ],
)
def test_the_root_must_be_a_bucket(bench: Bench, spec: dict[str, Any], root: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=r"gcs_output_directory.*gs://bucket"):
        bench.submit(spec, parameters={"text": "a"}, gcsOutputDirectory=root)


@pytest.mark.parametrize("id", ["Upper", "1st", "under_score", "x" * 129])
def test_ids_are_checked(bench: Bench, spec: dict[str, Any], id: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="not a valid ID"):
        bench.submit(spec, id, {"text": "a"})


@pytest.mark.parametrize(
    ("key", "value"), [("Owner", "me"), ("owner", "Me"), ("-owner", ""), ("owner", "x" * 64), ("a b", ""), ("É", "")]
)
def test_labels_are_checked(bench: Bench, spec: dict[str, Any], key: str, value: str) -> None:
    job = bench.job(spec, {"text": "a"})
    job.labels = {key: value}
    with pytest.raises(exceptions.InvalidArgument, match=f"labels: '{key}: {value}' is not valid"):
        bench.service.create_pipeline_job(CreatePipelineJobRequest(parent=bench.parent, pipeline_job=job))


def test_labels_of_any_language_are_accepted(bench: Bench, spec: dict[str, Any]) -> None:
    job = bench.job(spec, {"text": "a"})
    job.labels = {"1st-owner_": "é-5", "π": ""}
    created = bench.service.create_pipeline_job(CreatePipelineJobRequest(parent=bench.parent, pipeline_job=job))
    bench.engine.join(created.name)
    assert set(job.labels) <= set(bench.get(created.name).labels)


def test_a_job_may_be_called_as_its_pipeline_is(bench: Bench, spec: dict[str, Any]) -> None:
    result = bench.run(spec, "admitted", {"text": "a"})
    assert result.state == "SUCCEEDED"
    detail = result.job.job_detail
    assert detail.pipeline_context.schema_title == "system.Pipeline"
    assert detail.pipeline_run_context.schema_title == "system.PipelineRun"
    assert detail.pipeline_run_context.parent_contexts == [detail.pipeline_context.name]
    # And a later pipeline may be called as a run was.
    other = copy.deepcopy(spec)
    bench.run(spec, "other", {"text": "a"})
    other["pipelineInfo"]["name"] = "other"
    assert bench.run(other, "third", {"text": "a"}).state == "SUCCEEDED"


def test_literals_are_checked(bench: Bench, spec: dict[str, Any]) -> None:
    spec["root"]["inputDefinitions"]["parameters"]["text"]["literals"] = ["a", "b"]
    with pytest.raises(exceptions.InvalidArgument, match="parameter text is c, but must be one of: a, b"):
        bench.submit(spec, parameters={"text": "c"})
    assert bench.run(spec, parameters={"text": "b"}).state == "SUCCEEDED"


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
        ("root.dag.tasks", {"a/b": {"componentRef": {"name": "comp-show"}}}, "dag.tasks: 'a/b' cannot name a task"),
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
        ("pipelineInfo", {"name": "Admitted"}, "pipelineInfo.name: .*is not a valid name"),
        (
            "components.comp-condition-1.dag.tasks.show.inputs.artifacts.source.taskOutputArtifact",
            {"outputArtifactKey": "nothing"},
            "tasks.show.inputs.artifacts.source: task 'write' has no output artifact 'nothing'",
        ),
        (
            "components.comp-condition-1.dag.tasks.write.inputs.parameters.text",
            {"componentInputParameter": "nothing"},
            "tasks.write.inputs.parameters.text: there is no input parameter 'nothing' around the task",
        ),
        (
            "components.comp-condition-1.dag.tasks.write.inputs",
            {"parameters": {}},
            "tasks.write.inputs.parameters: the required input parameter 'text' is not given",
        ),
        (
            "root.dag",
            {
                "outputs": {
                    "parameters": {"x": {"valueFromParameter": {"producerSubtask": "none", "outputParameterKey": "y"}}}
                }
            },
            "root.dag.outputs.parameters.x: there is no task 'none'",
        ),
        ("root.dag.tasks.condition-1", {"retryPolicy": {"maxRetryCount": -1}}, "maxRetryCount: -1 is negative"),
        (
            "root.dag.tasks.condition-1",
            {"parameterIterator": {"itemInput": "item", "items": {"raw": "[1]"}}},
            "parameterIterator: component 'comp-condition-1' has no input 'item'",
        ),
        (
            "root.dag.tasks.condition-1",
            {
                "parameterIterator": {"itemInput": "pipelinechannel--text", "items": {"raw": "[1]"}},
                "iteratorPolicy": {"parallelismLimit": -2},
            },
            "parallelismLimit: -2 is negative",
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


@pytest.mark.parametrize(
    ("resources", "told"),
    [
        (
            {"accelerator": {"type": "NVIDIA_TESLA_T4", "count": "3"}},
            r"accelerator.count: no machine type has 3 .*1, 2, 4",
        ),
        ({"accelerator": {"type": "NVIDIA_TESLA_K80", "count": "1"}}, "is not supported for any machine type"),
        ({"accelerator": {"type": "NVIDIA_TESLA_X9", "count": "1"}}, "is not an accelerator of Vertex AI"),
        ({"cpuLimit": 32.0, "accelerator": {"resourceType": "NVIDIA_TESLA_T4", "resourceCount": "1"}}, "32 CPUs"),
        ({"cpuLimit": 97.0}, "cpuLimit: 97 is more than 96"),
        ({"memoryLimit": 625.0}, "memoryLimit: 625 GB is more than 624 GB"),
    ],
)
def test_resources_that_no_machine_has_are_refused(
    bench: Bench, spec: dict[str, Any], resources: dict[str, Any], told: str
) -> None:
    spec["deploymentSpec"]["executors"]["exec-show"]["container"]["resources"] = resources
    with pytest.raises(exceptions.InvalidArgument, match=f"executors.exec-show.container.resources.*{told}"):
        bench.submit(spec, parameters={"text": "a"})


@pytest.mark.parametrize(
    "resources",
    [
        {"cpuLimit": 8.0, "memoryLimit": 32.0, "accelerator": {"type": "NVIDIA_TESLA_T4", "count": "2"}},
        {"cpuLimit": 32.0, "accelerator": {"type": "NVIDIA_L4", "count": "1"}},
        {"accelerator": {"type": "TPU_V3", "count": "64"}},
        {"accelerator": {"resourceType": "{{$.inputs.parameters['kind']}}", "resourceCount": "1"}},
    ],
)
def test_accelerators_are_noted_and_not_required(bench: Bench, spec: dict[str, Any], resources: dict[str, Any]) -> None:
    spec["deploymentSpec"]["executors"]["exec-show"]["container"]["resources"] = resources
    assert bench.run(spec, parameters={"text": "a"}).state == "SUCCEEDED"


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    for key, child in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from _places(child, (*path, key))


def test_whatever_is_wrong_anywhere_is_an_invalid_argument(bench: Bench, spec: dict[str, Any]) -> None:
    refused = 0
    for *above, last in list(_places(spec)):
        for wrong in ("missing", "text", 7, [], ["x"], {}, {"x": {}}, None):
            broken = copy.deepcopy(spec)
            around = functools.reduce(lambda found, step: found[step], above, broken)
            if wrong == "missing":
                del around[last]
            else:
                around[last] = wrong
            try:
                admit(bench.job(broken, {"text": "a"}))
            except exceptions.InvalidArgument:
                refused += 1
    assert refused > 100


def test_pipelines_of_another_schema_are_refused(bench: Bench, spec: dict[str, Any]) -> None:
    with pytest.raises(exceptions.InvalidArgument, match="schemaVersion"):
        bench.submit({**spec, "schemaVersion": "1.0"}, parameters={"text": "a"})
    assert say
