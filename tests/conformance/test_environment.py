"""Protects what surrounds a container: variables, image, resources, the workspace of its run."""

import json
from typing import Any

import pytest
from kfp import dsl
from kfp.dsl import Dataset

from tests.conformance.support import Conformance
from tests.localvertex.engine.pieces import say, write, write_folder
from tests.localvertex.runners import only_processes

WORKSPACE = dsl.PipelineConfig(workspace=dsl.WorkspaceConfig(size="1Gi"))


@dsl.container_component
def variables():
    return dsl.ContainerSpec(
        image="alpine:3", command=["sh", "-c", 'echo "$COLOUR|$OF|$VERTEX_AI_PIPELINES_RUN_LABELS"']
    )


def test_variables_hold_constants_and_placeholders(run: Conformance) -> None:
    @dsl.pipeline(name="variables")
    def pipeline() -> None:
        task = variables().set_env_variable("COLOUR", "blue & 'green'")
        task.set_env_variable("OF", dsl.PIPELINE_JOB_NAME_PLACEHOLDER)

    result = run(pipeline, ran="variables")
    colour, of, labels = result.log("variables").strip().split("|")
    assert (colour, of) == ("blue & 'green'", result.job.name.split("/")[-1])
    assert json.loads(labels) == dict(result.job.labels)


def test_an_image_may_be_chosen_by_a_parameter(run: Conformance) -> None:
    @dsl.pipeline(name="image")
    def pipeline(image: str = "chosen:1") -> None:
        say(text="x").set_container_image(image)

    run(pipeline, ran="say")
    assert run.bench.runner.started[0].image == "chosen:1"


@pytest.mark.parametrize("accelerator", ["NVIDIA_TESLA_T4", "nvidia.com/gpu"])
def test_resources_and_names_to_show_are_noted(run: Conformance, accelerator: str) -> None:
    @dsl.pipeline(name="resources")
    def pipeline(memory: str = "2G") -> None:
        task = say(text="x").set_cpu_limit("4").set_cpu_request("1").set_memory_limit("8G").set_memory_request(memory)
        task.set_accelerator_type(accelerator).set_accelerator_limit(1).set_display_name("Says x")

    run(pipeline, ran="say")


@only_processes
def test_a_containerised_component_runs_its_own_code(run: Conformance) -> None:
    @dsl.component(base_image="python:3.11", target_image="mine:1", install_kfp_package=False)
    def greet(name: str) -> str:
        return f"hello {name}"

    @dsl.pipeline(name="containerised")
    def pipeline() -> str:
        return greet(name="you").output

    # The image would hold the code; here it lies in the folder that the table says is the image's.
    (run.bench.folder / "greet.py").write_text(GREET)
    (run.bench.folder / "kfp_config.ini").write_text("[Components]\ngreet = greet.py\n")
    run(pipeline, ran="greet", outputs={"Output": "hello you"})


GREET = """
from kfp import dsl

@dsl.component(base_image="python:3.11", target_image="mine:1")
def greet(name: str) -> str:
    return f"hello {name}"
"""


@dsl.container_component
def leave(workspace: str, text: str):
    script = 'mkdir "$0/made" && echo "$1" > "$0/made/note"'
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", script], args=[workspace, text])


@dsl.container_component
def take(workspace: str, note: dsl.OutputPath(str)):  # type: ignore
    script = 'cat "$0/made/note" > "$1"'
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", script], args=[workspace, note])


def test_tasks_of_a_run_share_a_workspace_and_runs_do_not(run: Conformance) -> None:
    @dsl.pipeline(name="workspace", pipeline_config=WORKSPACE)
    def pipeline(text: str) -> str:
        left = leave(workspace=dsl.WORKSPACE_PATH_PLACEHOLDER, text=text)
        return take(workspace=dsl.WORKSPACE_PATH_PLACEHOLDER).after(left).output

    # What a task leaves in the workspace is no output of it: nothing of this is answered from the cache.
    for text in ("first", "second", "second"):
        run(pipeline, parameters={"text": text}, ran="leave take", outputs={"Output": f"{text}\n"})


@dsl.component(base_image="python:3.11", install_kfp_package=False)
def change(data: dsl.Input[Dataset]) -> list:
    """Reads a file or folder, and breaks the copy that it was given."""
    import os

    folder = os.path.isdir(data.path)
    file = os.path.join(data.path, "b") if folder else data.path
    with open(file, "r+") as copy:
        text = copy.read()
        copy.write("changed")
    return [text, ".artifacts" in data.path]


@pytest.mark.parametrize(("task", "text"), [(write, "a"), (write_folder, "b")])
def test_importers_copy_to_the_workspace(run: Conformance, task: Any, text: str) -> None:
    @dsl.container_component
    def uri(source: dsl.Input[Dataset], text: dsl.OutputPath(str)):  # type: ignore
        command = ["sh", "-c", 'printf %s "$0" > "$1"']
        return dsl.ContainerSpec(image="alpine:3", command=command, args=[source.uri, text])

    @dsl.container_component
    def path(source: dsl.Input[Dataset], text: dsl.OutputPath(str)):  # type: ignore
        command = ["sh", "-c", 'test -e "$0" && printf %s "$0" > "$1"']
        return dsl.ContainerSpec(image="alpine:3", command=command, args=[source.path, text])

    @dsl.pipeline(name="importing", pipeline_config=WORKSPACE)
    def pipeline() -> list:
        made = task(text="a").output
        found = dsl.importer(artifact_uri=uri(source=made).output, artifact_class=Dataset, download_to_workspace=True)
        path(source=found.output)
        return change(data=found.output).output

    states = {"importer": "SUCCEEDED"}
    result = run(pipeline, ran=f"{task.name} uri path change", states=states, outputs={"Output": [text, True]})
    assert "/workspace/.artifacts/" in result.output("path", "text")
    original = run.bench.buckets.path(result.output("uri", "text"))
    assert (original / "b" if original.is_dir() else original).read_text() == text


def test_an_importer_that_finds_nothing_to_copy_fails(run: Conformance) -> None:
    @dsl.pipeline(name="importing", pipeline_config=WORKSPACE)
    def pipeline() -> None:
        dsl.importer(artifact_uri="gs://bucket/none", artifact_class=Dataset, download_to_workspace=True)

    result = run(pipeline, ran="", states={"importer": "FAILED"}, ends="FAILED")
    assert "There is nothing at gs://bucket/none to copy to the workspace." in result.job.error.message
