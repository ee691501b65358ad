"""Protects artifacts: files and folders between tasks, metadata, lists, importers, and what a run is given."""

from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Artifact as ArtifactResource
from kfp import dsl
from kfp.dsl import Artifact, ClassificationMetrics, Dataset, Input, Metrics, Model, Output

from tests.conformance.support import Conformance
from tests.localvertex.engine.pieces import copy, read_all, say, show, write, write_folder
from tests.localvertex.runners import only_processes


def test_files_and_folders_go_from_task_to_task(run: Conformance) -> None:
    @dsl.pipeline(name="files")
    def pipeline(text: str = "words") -> Dataset:
        return copy(source=copy(source=write_folder(text=text).output).output).output

    # The copy of the copy is made of the same content: the first one answers for it.
    outputs = {"Output": {"inner/a": "words", "b": "b"}}
    run(pipeline, ran="write-folder copy", states={"copy-2": "SKIPPED"}, outputs=outputs)


def test_what_one_task_writes_another_reads(run: Conformance) -> None:
    @dsl.pipeline(name="through-a-file")
    def pipeline(text: str) -> str:
        return show(source=write(text=text).output).output

    text = "good 'day' \"$HOME\"\n"
    run(pipeline, parameters={"text": text}, ran="write show", outputs={"Output": text})


def test_metadata_types_and_metrics_reach_the_next_task(run: Conformance) -> None:
    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def make(data: Output[Dataset], metrics: Output[Metrics], curve: Output[ClassificationMetrics]) -> Model:
        data.metadata["rows"] = 4
        data.metadata["of"] = {"nested": [1, 2.5]}
        with open(data.path, "w") as file:
            file.write("rows")
        metrics.log_metric("accuracy", 0.5)
        curve.log_confusion_matrix(["a", "b"], [[1, 0], [0, 1]])
        model = dsl.Model(uri=dsl.get_uri("elsewhere"), metadata={"kind": "small"})
        with open(model.path, "w") as file:
            file.write("weights")
        return model

    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def read(data: Input[Dataset], metrics: Input[Metrics], model: Input[Model]) -> list:
        rows = data.metadata["rows"] + data.metadata["of"]["nested"][1]
        names = [type(each).__name__ for each in (data, metrics, model)]
        return [rows, metrics.metadata["accuracy"], model.metadata["kind"], open(model.path).read(), *names]

    @dsl.pipeline(name="metadata")
    def pipeline() -> list:
        made = make()
        outputs = made.outputs
        return read(data=outputs["data"], metrics=outputs["metrics"], model=outputs["Output"]).output

    expected = [6.5, 0.5, "small", "weights", "Dataset", "Metrics", "Model"]
    result = run(pipeline, ran="make read", outputs={"Output": expected})
    assert result.artifacts("make", "Output")[0]["uri"].endswith("/elsewhere")
    assert result.artifacts("make", "curve")[0]["metadata"]["confusionMatrix"]["rows"][0] == {"row": [1, 0]}


def test_an_optional_artifact_may_be_absent(run: Conformance) -> None:
    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def which(data: Input[Dataset] | None = None) -> str:
        return "nothing" if data is None else open(data.path).read()

    @dsl.pipeline(name="inner")
    def inner(data: Input[Dataset] | None = None) -> str:
        return which(data=data).output

    @dsl.pipeline(name="optional")
    def pipeline() -> str:
        return say(text=f"{inner().output} {inner(data=write(text='d').output).output}").output

    run(pipeline, ran="inner/which write inner-2/which say", outputs={"Output": "nothing d"})


def test_a_list_of_artifacts_is_one_input(run: Conformance) -> None:
    @dsl.pipeline(name="lists")
    def pipeline() -> str:
        with dsl.ParallelFor(["a", "b", "c"]) as text:
            made = write(text=text)
        return read_all(files=dsl.Collected(made.output)).output

    ran = "for-loop-2/0/write for-loop-2/1/write for-loop-2/2/write read-all"
    run(pipeline, ran=ran, outputs={"Output": "a,b,c"})


def test_a_task_may_say_that_an_artifact_lies_elsewhere(run: Conformance) -> None:
    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def point(data: Output[Dataset]) -> None:
        data.uri = "gs://bucket/elsewhere"
        with open(data.path, "w") as file:
            file.write("found")

    @dsl.pipeline(name="elsewhere")
    def pipeline() -> str:
        return show(source=point().outputs["data"]).output

    run(pipeline, ran="point show", outputs={"Output": "found"})


def test_what_a_task_writes_to_a_path_of_its_own_is_fetched(run: Conformance) -> None:
    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def stray(folder: str, data: Output[Dataset]) -> None:
        data.custom_path = f"{folder}/stray"
        with open(data.path, "w") as file:
            file.write("fetched")

    @dsl.pipeline(name="stray")
    def pipeline(folder: str) -> Dataset:
        return stray(folder=folder).outputs["data"]

    parameters = {"folder": run.shared()}
    run(pipeline, parameters=parameters, ran="stray", outputs={"Output": "fetched"})


def put(run: Conformance, uri: str, text: str) -> None:
    run.bench.buckets.ensure("bucket")
    path = run.bench.buckets.path(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("source", ["constant", "parameter", "output"])
def test_importers_take_their_uri_from_anywhere(run: Conformance, source: str) -> None:
    @dsl.pipeline(name="importing")
    def pipeline(uri: str = "gs://bucket/data") -> str:
        given: Any = {"constant": "gs://bucket/data", "parameter": uri}.get(source) or say(text=uri).output
        return show(source=dsl.importer(artifact_uri=given, artifact_class=Dataset).output).output

    put(run, "gs://bucket/data", "imported")
    ran = "say show" if source == "output" else "show"
    run(pipeline, ran=ran, states={"importer": "SUCCEEDED"}, outputs={"Output": "imported"})


@only_processes
def test_an_importer_takes_a_file_of_this_machine(run: Conformance) -> None:
    @dsl.pipeline(name="local")
    def pipeline(uri: str) -> str:
        return show(source=dsl.importer(artifact_uri=uri, artifact_class=Dataset).output).output

    file = run.bench.folder / "local.txt"
    file.write_text("here")
    parameters = {"uri": str(file)}
    run(pipeline, parameters=parameters, ran="show", states={"importer": "SUCCEEDED"}, outputs={"Output": "here"})


def test_an_importer_reuses_what_was_imported_before_unless_told_not_to(run: Conformance) -> None:
    def importing(reimport: bool) -> Any:
        @dsl.pipeline(name="importing")
        def pipeline(uri: str = "gs://bucket/data/a", rows: int = 5) -> None:
            dsl.importer(artifact_uri=uri, artifact_class=Dataset, reimport=reimport, metadata={"rows": rows})

        return pipeline

    first = run(importing(False), ran="", states={"importer": "SUCCEEDED"})
    second = run(importing(False), ran="", states={"importer": "SKIPPED"})
    again = run(importing(True), ran="", states={"importer": "SUCCEEDED"})
    run(importing(False), parameters={"rows": 6}, ran="", states={"importer": "SUCCEEDED"})
    assert first.artifacts("importer", "artifact") == second.artifacts("importer", "artifact")
    assert again.artifacts("importer", "artifact")[0]["name"] != first.artifacts("importer", "artifact")[0]["name"]


@dsl.pipeline(name="given")
def given(data: Input[Dataset], other: Input[Artifact] | None = None) -> str:
    return show(source=data).output


def record(run: Conformance, schema_title: str) -> str:
    """Makes an artifact such as users have; returns its id."""
    put(run, "gs://bucket/given", "from outside")
    run(imported, ran="", states={"importer": "SUCCEEDED"})
    folder = f"{run.bench.parent}/metadataStores/default/artifacts"
    resource = ArtifactResource(name=f"{folder}/mine", uri="gs://bucket/given", schema_title=schema_title)
    return str(run.bench.store.create(resource).name).split("/")[-1]


@dsl.pipeline(name="imported")
def imported() -> None:
    dsl.importer(artifact_uri="gs://bucket/other", artifact_class=Dataset)


def test_a_pipeline_is_given_artifacts(run: Conformance) -> None:
    inputs = {"data": {"artifactId": record(run, "system.Dataset")}}
    result = run(given, ran="show", outputs={"Output": "from outside"}, inputArtifacts=inputs)
    assert result.tasks["show"].inputs["source"].artifacts[0].name.endswith("/artifacts/mine")


@pytest.mark.parametrize(
    ("inputs", "error", "told"),
    [
        ({}, exceptions.InvalidArgument, "input artifact data is required"),
        ({"data": {"artifactId": "none"}}, exceptions.NotFound, "artifacts/none"),
        ({"data": {}}, exceptions.InvalidArgument, "input_artifacts.data: artifact_id is missing"),
        ({"data": {"artifactId": "mine"}}, exceptions.InvalidArgument, "expected an artifact of type system.Dataset"),
        ({"date": {"artifactId": "mine"}}, exceptions.InvalidArgument, "input artifact date is not found"),
    ],
)
def test_artifacts_that_a_pipeline_cannot_take_are_refused(
    run: Conformance, inputs: dict[str, Any], error: type[Exception], told: str
) -> None:
    record(run, "system.Model")
    with pytest.raises(error, match=told):
        run(given, ran="", inputArtifacts=inputs)
