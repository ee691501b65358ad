"""Protects `explain`: each reason for which a task is executed or is not is found and named, with both values."""

from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Model as ModelResource
from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input, Output

from localvertex import names
from localvertex.engine.explain import Explainer, Explanation, differences
from tests.localvertex.engine.pieces import fail, say
from tests.localvertex.engine.support import Bench, Result

SCRIPT = 'printf %s "$0" > "$1"'


def pipeline(
    *, image: str = "maker:1", script: str = SCRIPT, argument: str = "x", variable: str = "", key: str = "", **task: Any
) -> Any:
    """`make`, whose every part can be another; `read`, in a loop, reads what it makes."""

    @dsl.container_component
    def make(size: float, file: Output[Dataset]):
        return dsl.ContainerSpec(image=image, command=["sh", "-c", script], args=[size, file.path, argument])

    @dsl.container_component
    def read(source: Input[Artifact], item: int):
        return dsl.ContainerSpec(image="alpine:3", command=["cat"], args=[source.path])

    @dsl.pipeline(name="explained")
    def explained(size: float = 0.1) -> None:
        made = make(size=size)
        made.set_caching_options(task.get("cache", True), **({"cache_key": key} if key else {}))
        if variable:
            made.set_env_variable("MODE", variable)
        with dsl.ParallelFor([1, 2]) as item:
            read(source=made.output, item=item)

    return explained


def explain(bench: Bench, result: Result, task: str = "make") -> Explanation:
    return Explainer(bench.store).explain(result.job.name, task)


def id_of(result: Result) -> str:
    return names.id_of(result.job.name)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"image": "maker:2"}, 'the image was "maker:1", is "maker:2"'),
        ({"script": SCRIPT + "; true"}, f'command 3 was "{SCRIPT}", is "{SCRIPT}; true"'.replace('"$', '\\"$')),
        ({"argument": "y"}, 'argument 3 was "x", is "y"'),
        ({"variable": "fast"}, 'environment variable MODE was not there, is "fast"'),
        ({"key": "mine"}, 'the cache key was not there, is "mine"'),
    ],
)
def test_what_changed_in_the_pipelines_text(bench: Bench, change: dict[str, str], text: str) -> None:
    first, second = bench.run(pipeline()), bench.run(pipeline(**change))
    found = explain(bench, second)
    assert found.compared_with == id_of(first)
    assert [each.text.replace('\\"', '"') for each in found.differences] == [text.replace('\\"', '"')]
    assert found.reason == f"executed because, compared with run {id_of(first)}, {found.differences[0].text}"


def test_a_parameter_and_the_content_it_leads_to(bench: Bench) -> None:
    first = bench.run(pipeline())
    second = bench.run(pipeline(), parameters={"size": 0.2})
    found = explain(bench, second)
    assert found.reason.endswith("parameter size was 0.1, is 0.2")
    reading = explain(bench, second, "for-loop-2/1/read")
    (difference,) = reading.differences
    assert (difference.part, difference.name, difference.made_by) == ("artifact", "source", "make")
    before, after = (run.records["for-loop-2/1/read"].fingerprint for run in (first, second))
    assert difference.before[0] in before and difference.after[0] in after
    assert "input artifact source, made by task make, was " in reading.reason


def test_the_interface_of_a_component(bench: Bench) -> None:
    def with_default(default: str) -> Any:
        @dsl.container_component
        def greet(name: str = default):
            return dsl.ContainerSpec(image="alpine:3", command=["echo"], args=[name])

        @dsl.pipeline(name="greeting")
        def greeting() -> None:
            greet(name="you")

        return greeting

    bench.run(with_default("a"))
    found = explain(bench, bench.run(with_default("b")), "greet")
    assert found.reason.endswith('the interface inputs.parameters.name.default was "a", is "b"')


def test_caching_that_was_off(bench: Bench) -> None:
    bench.run(pipeline())
    found = explain(bench, bench.run(pipeline(cache=False)))
    assert found.reason == "executed because caching was off for it"


@pytest.mark.parametrize(("damage", "words"), [("alter", "was altered since"), ("delete", "is no longer there")])
def test_an_output_that_was_touched(bench: Bench, damage: str, words: str) -> None:
    uri = bench.run(pipeline()).artifacts("make", "file")[0]["uri"]
    file = bench.buckets.path(uri)
    file.unlink()
    if damage == "alter":
        file.write_text("other")
    second = bench.run(pipeline())
    assert explain(bench, second).reason.endswith(f"no longer good: output file {words}: {uri}")
    third = bench.run(pipeline())
    reason = explain(bench, third).reason
    assert reason.startswith("cached: ") and f"are those of run {id_of(second)}" in reason
    assert explain(bench, second).state == "SUCCEEDED", "what was noticed then is still known"


def test_a_resource_that_is_gone(bench: Bench) -> None:
    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def register(name: str, model: Output[dsl.Artifact]) -> None:
        model.metadata["resourceName"] = name

    @dsl.pipeline(name="register")
    def registering(name: str) -> None:
        register(name=name)

    model = f"{bench.parent}/models/7"
    version = bench.store.create(ModelResource(name=f"{model}/versions/1"))
    bench.run(registering, parameters={"name": model})
    bench.store.delete(ModelResource, version.name)
    found = explain(bench, bench.run(registering, parameters={"name": model}), "register")
    assert found.reason.endswith(f"the resource that output model names is gone: {model}")


def test_the_first_run_and_one_after_a_failure(bench: Bench) -> None:
    @dsl.pipeline(name="failing")
    def failing() -> None:
        fail(message="no")

    first, second = bench.run(failing), bench.run(failing)
    assert explain(bench, first, "fail").reason == "executed because there is no earlier run of this task"
    found = explain(bench, second, "fail")
    assert found.compared_with == id_of(first) and not found.differences
    assert found.reason.endswith("is FAILED: only outputs of successes are kept")


def test_the_nearest_run_is_the_one_with_the_fewest_differences(bench: Bench) -> None:
    near = bench.run(pipeline(image="maker:2"), parameters={"size": 0.5})
    bench.run(pipeline(image="maker:3"), parameters={"size": 0.7})
    newer = bench.run(pipeline(image="maker:4"), parameters={"size": 0.6})
    assert explain(bench, bench.run(pipeline(image="maker:2"), parameters={"size": 0.6})).compared_with == id_of(newer)
    assert explain(bench, newer).compared_with != id_of(newer), "a run is not its own past"
    assert explain(bench, bench.run(pipeline(image="maker:2"), parameters={"size": 0.8})).compared_with != id_of(near)


def test_other_pipelines_are_no_past(bench: Bench) -> None:
    for name in ("one", "two"):

        @dsl.pipeline(name=name)
        def only(text: str) -> None:
            say(text=text)

        result = bench.run(only, parameters={"text": name})
    assert explain(bench, result, "say").reason.endswith("no earlier run of this task")


def test_tasks_that_were_not_executed_at_all(bench: Bench) -> None:
    @dsl.pipeline(name="branches")
    def branches(go: bool = False) -> None:
        with dsl.If(go == True):  # noqa: E712
            say(text="x")
        failed = fail(message="no")
        say(text="y").after(failed)
        dsl.importer(artifact_uri="gs://bucket/data", artifact_class=Dataset)

    result = bench.run(branches)
    assert explain(bench, result, "condition-1").reason.startswith("not triggered because its condition is false: ")
    assert explain(bench, result, "say-2").reason == "not triggered because upstream task fail is FAILED"
    assert explain(bench, result, "importer").reason.startswith("executed because it imports anew")
    assert explain(bench, bench.run(branches), "importer").reason.startswith("cached: the metadata store holds")


def test_names_that_mean_no_one_task(bench: Bench) -> None:
    result = bench.run(pipeline())
    assert explain(bench, result, "for-loop-2.0.read").task == "for-loop-2/0/read"
    with pytest.raises(exceptions.NotFound, match=r"has no task 'nothing'. It has: make, "):
        explain(bench, result, "nothing")
    with pytest.raises(exceptions.InvalidArgument, match="several tasks 'read'"):
        explain(bench, result, "read")
    for group in ("for-loop-2", "for-loop-2/0"):
        with pytest.raises(exceptions.InvalidArgument, match=f"{group} is made of other tasks.*for-loop-2/0/read"):
            explain(bench, result, group)
    with pytest.raises(exceptions.NotFound):
        Explainer(bench.store).explain(result.job.name + "x", "make")


def test_parts_that_come_and_go() -> None:
    empty = {"component": {}, "image": "a", "command": ["c"], "arguments": [], "environment": {}, "parameters": {}}
    before = {**empty, "artifacts": {"data": ["1234567890abcdef"]}}
    after = {**empty, "artifacts": {}, "command": ["c", "d"], "parameters": {"p": 0}}
    assert [each.text for each in differences(before, after)] == [
        'command 2 was not there, is "d"',
        "parameter p was not there, is 0",
        "input artifact data was 1234567890ab, is not there",
    ]
    assert not differences(before, before)
