"""Protects placeholders: each stands for the right thing, wherever the compiler lets it stand."""

import json
from pathlib import Path
from typing import Any

from kfp import dsl
from kfp.dsl import Artifact, ConcatPlaceholder, Dataset, IfPresentPlaceholder, Input, Model, Output

from tests.conformance.support import Conformance
from tests.localvertex.engine.pieces import say, write

LINES = ["sh", "-c", "printf '%s\\n' \"$@\"", "lines"]


def shell(*args: Any) -> dsl.ContainerSpec:
    """A container that prints its arguments, one a line."""
    return dsl.ContainerSpec(image="alpine:3", command=LINES, args=list(args))


def test_inputs_by_value(run: Conformance) -> None:
    @dsl.container_component
    def tell(text: str, count: int, share: float, sure: bool, items: list, values: dict):
        return shell(text, f"{count}|{share}|{sure}", items, values, f"<{text}>")

    @dsl.pipeline(name="values")
    def pipeline() -> None:
        tell(text="a b", count=3, share=2.0, sure=True, items=[1, "b"], values={"a": {"b": 2}})

    told = run(pipeline, ran="tell").log("tell").splitlines()
    assert told == ["a b", "3|2.0|true", '[1, "b"]', '{"a": {"b": 2}}', "<a b>"]


def test_artifacts_by_path_uri_name_and_metadata(run: Conformance) -> None:
    @dsl.container_component
    def tell(source: Input[Dataset], model: Output[Model]):
        return shell(
            source.uri,
            source.path,
            source.metadata["rows"],
            source.metadata["tags"],
            "{{$.inputs.artifacts['source'].metadata}}",
            "{{$.inputs.artifacts['source'].name}}",
            model.uri,
            model.path,
        )

    @dsl.pipeline(name="artifacts")
    def pipeline() -> None:
        metadata = {"rows": 5, "tags": ["x"]}
        tell(source=dsl.importer(artifact_uri="gs://bucket/data", artifact_class=Dataset, metadata=metadata).output)

    result = run(pipeline, ran="tell", states={"importer": "SUCCEEDED"})
    told = result.log("tell").splitlines()
    folder = f"bucket/root/{run.bench.home.project_number}/{result.job.name.split('/')[-1]}"
    model = f"{folder}/tell_{result.records['tell'].task_id}/model"
    assert told[:4] == ["gs://bucket/data", run.seen("bucket/data"), "5", '["x"]']
    assert json.loads(told[4]) == {"rows": 5, "tags": ["x"]}
    assert told[5] == result.artifacts("importer", "artifact")[0]["name"]
    assert told[6:] == [f"gs://{model}", run.seen(model)]


def test_what_a_run_and_a_task_are_called(run: Conformance) -> None:
    @dsl.container_component
    def tell():
        return shell(
            dsl.PIPELINE_JOB_NAME_PLACEHOLDER,
            dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
            dsl.PIPELINE_TASK_NAME_PLACEHOLDER,
            dsl.PIPELINE_TASK_ID_PLACEHOLDER,
            dsl.PIPELINE_ROOT_PLACEHOLDER,
            "{{$.pipeline_google_cloud_project_id}}/{{$.pipeline_google_cloud_location}}",
            dsl.PIPELINE_JOB_ID_PLACEHOLDER,
            dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER,
            dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
        )

    @dsl.pipeline(name="names")
    def pipeline() -> None:
        tell()

    result = run(pipeline, ran="tell")
    told = result.log("tell").splitlines()
    task_id = str(result.records["tell"].task_id)
    id = result.job.name.split("/")[-1]
    assert told[:6] == [id, result.job.name, "tell", task_id, "gs://bucket/root", "localvertex/us-central1"]
    assert told[6].isdigit()
    assert told[7] == told[8] == result.job.create_time.strftime("%Y-%m-%dT%H:%M:%SZ")


def test_names_are_passed_on_as_values_and_belong_to_the_task_that_reads_them(run: Conformance) -> None:
    @dsl.pipeline(name="inner")
    def inner(text: str) -> str:
        return say(text=f"{text} {dsl.PIPELINE_TASK_NAME_PLACEHOLDER}").output

    @dsl.pipeline(name="outer")
    def outer(name: str = dsl.PIPELINE_JOB_NAME_PLACEHOLDER) -> str:
        return inner(text=f"in {name}").output

    result = run.bench.run(outer, "named")
    assert (result.output(""), result.executed()) == ("in named say", ["inner.say"])


def test_concatenations(run: Conformance) -> None:
    @dsl.container_component
    def tell(text: str, count: int, source: Input[Artifact]):
        return shell(
            ConcatPlaceholder(["--text=", text]),
            ConcatPlaceholder([text, "-", count, ConcatPlaceholder(["(", source.uri, ")"])]),
        )

    @dsl.pipeline(name="concatenations")
    def pipeline() -> None:
        source = dsl.importer(artifact_uri="gs://bucket/data", artifact_class=Artifact)
        tell(text='quo"te', count=2, source=source.output)

    told = run(pipeline, ran="tell", states={"importer": "SUCCEEDED"}).log("tell").splitlines()
    assert told == ['--text=quo"te', 'quo"te-2(gs://bucket/data)']


def test_arguments_depend_on_which_inputs_are_there(run: Conformance) -> None:
    @dsl.container_component
    def tell(word: str = None, count: int = None, source: Input[Dataset] = None):  # type: ignore  # noqa: RUF013
        return shell(
            IfPresentPlaceholder("word", then=["--word", word], else_=["--no-word", "at all"]),
            IfPresentPlaceholder("count", then=ConcatPlaceholder(["--count=", count])),
            IfPresentPlaceholder("source", then=[source.path], else_="--no-source"),
            ConcatPlaceholder(["word:", IfPresentPlaceholder("word", then=word, else_="none")]),
        )

    @dsl.pipeline(name="presence")
    def pipeline() -> None:
        tell()
        tell(word="w", count=0, source=write(text="x").output)

    result = run(pipeline, ran="tell write tell-2")
    assert result.log("tell").splitlines() == ["--no-word", "at all", "--no-source", "word:none"]
    path = run.seen(result.artifacts("write", "file")[0]["uri"].removeprefix("gs://"))
    assert result.log("tell-2").splitlines() == ["--word", "w", "--count=0", path, "word:w"]


def test_values_are_escaped_for_the_json_around_them(run: Conformance) -> None:
    @dsl.container_component
    def tell(text: str, values: dict):
        return shell(
            '{"text": "{{$.inputs.parameters[\'text\'].json_escape[1]}}"}',
            '{"deep": "{\\"text\\": \\"{{$.inputs.parameters[\'text\'].json_escape[2]}}\\"}"}',
            '{"values": "{{$.inputs.parameters[\'values\'].json_escape[1]}}"}',
        )

    @dsl.pipeline(name="escapes")
    def pipeline(text: str) -> None:
        tell(text=text, values={"a": 'b"'})

    text = 'a "quoted" \\ word'
    told = run(pipeline, parameters={"text": text}, ran="tell").log("tell").splitlines()
    assert json.loads(told[0])["text"] == text
    assert json.loads(json.loads(told[1])["deep"])["text"] == text
    assert json.loads(json.loads(told[2])["values"]) == {"a": 'b"'}


def test_the_executor_is_told_all_that_its_task_is_given(run: Conformance) -> None:
    @dsl.container_component
    def tell(text: str, source: Input[Dataset], made: Output[Model], said: dsl.OutputPath(str)):  # type: ignore
        script = 'printf %s "$0" > "$1"; printf x > "$2"'
        return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", script], args=["{{$}}", said, made.path])

    @dsl.pipeline(name="executor-input")
    def pipeline() -> str:
        return tell(text="t", source=write(text="d").output).outputs["said"]

    result = run.bench.run(pipeline)
    told = json.loads(result.output(""))
    (source,) = told["inputs"]["artifacts"]["source"]["artifacts"]
    (made,) = told["outputs"]["artifacts"]["made"]["artifacts"]
    assert told["inputs"]["parameterValues"] == {"text": "t"}
    assert source["uri"] == result.artifacts("write", "file")[0]["uri"]
    assert source["type"] == {"schemaTitle": "system.Dataset", "schemaVersion": "0.0.1"}
    assert made["name"] == result.artifacts("tell", "made")[0]["name"]
    assert (
        Path(told["outputs"]["outputFile"]).parent == Path(told["outputs"]["parameters"]["said"]["outputFile"]).parent
    )


def test_placeholders_in_defaults_of_components(run: Conformance) -> None:
    @dsl.container_component
    def tell(name: str = f"{dsl.PIPELINE_JOB_NAME_PLACEHOLDER}/{dsl.PIPELINE_TASK_NAME_PLACEHOLDER}"):
        return shell(name)

    @dsl.pipeline(name="component-default")
    def pipeline() -> None:
        tell()

    result = run(pipeline, ran="tell")
    assert result.log("tell") == f"{result.job.name.split('/')[-1]}/tell\n"


def test_placeholders_in_importers_and_loops(run: Conformance) -> None:
    @dsl.pipeline(name="elsewhere")
    def pipeline(name: str = "n") -> None:
        said = say(text=f"gs://bucket/{name}")
        dsl.importer(
            artifact_uri=said.output,
            artifact_class=Dataset,
            metadata={"run": dsl.PIPELINE_JOB_NAME_PLACEHOLDER, "of": [name, said.output]},
        )
        with dsl.ParallelFor(["plain", f"<{dsl.PIPELINE_JOB_NAME_PLACEHOLDER}>"]) as item:
            say(text=item)

    states = {"importer": "SUCCEEDED"}
    result = run(pipeline, ran="say for-loop-2/0/say-2 for-loop-2/1/say-2", states=states)
    (artifact,) = result.artifacts("importer", "artifact")
    id = result.job.name.split("/")[-1]
    assert artifact["uri"] == "gs://bucket/n"
    assert artifact["metadata"] == {"run": id, "of": ["n", "gs://bucket/n"]}
    assert [result.output(f"for-loop-2/{index}/say-2", "said") for index in (0, 1)] == ["plain", f"<{id}>"]
