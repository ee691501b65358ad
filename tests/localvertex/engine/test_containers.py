"""Protects container and Python components: what they are told, what is read from them, and how they fail."""

from typing import Any

from kfp import dsl
from kfp.dsl import (
    Artifact,
    ClassificationMetrics,
    ConcatPlaceholder,
    Dataset,
    IfPresentPlaceholder,
    Input,
    Metrics,
    Model,
    Output,
)

from localvertex import names
from tests.localvertex.engine.pieces import fail, say, show, write
from tests.localvertex.engine.support import Bench


def test_parameters_and_artifacts_flow_between_containers(bench: Bench) -> None:
    @dsl.pipeline(name="flow")
    def flow(text: str = "hello") -> str:
        written = write(text=text)
        shown = show(source=written.output)
        return say(text=f"<{shown.output}> in {dsl.PIPELINE_JOB_NAME_PLACEHOLDER}").output

    result = bench.run(flow, "flow-1", {"text": "good 'day' \"$HOME\""})
    assert result.state == "SUCCEEDED", result.job.error
    assert result.output("say", "said") == "<good 'day' \"$HOME\"> in flow-1"
    uri = result.artifacts("write", "file")[0]["uri"]
    assert uri.startswith(f"gs://bucket/root/{bench.home.project_number}/flow-1/write_")
    assert bench.buckets.path(uri).read_text() == "good 'day' \"$HOME\""


def test_every_placeholder_is_replaced(bench: Bench) -> None:
    @dsl.container_component
    def tell(
        source: Input[Dataset],
        model: Output[Model],
        count: int,
        share: float,
        flag: bool,
        items: list,
        table: dict,
        given: str = "",
        absent: str = None,  # type: ignore  # noqa: RUF013
    ):
        return dsl.ContainerSpec(
            image="alpine:3",
            command=["sh", "-c", 'for each in "$@"; do echo "$each"; done', "tell"],
            args=[
                f"{count}|{share}|{flag}",
                items,
                table,
                ConcatPlaceholder(["--given=", given]),
                IfPresentPlaceholder("absent", then=["--absent", absent], else_=["--none", "here"]),
                IfPresentPlaceholder("given", then=["--with", ConcatPlaceholder([given, "!"])]),
                source.uri,
                source.path,
                source.metadata["rows"],
                model.uri,
                dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                dsl.PIPELINE_JOB_RESOURCE_NAME_PLACEHOLDER,
                dsl.PIPELINE_TASK_NAME_PLACEHOLDER,
                dsl.PIPELINE_TASK_ID_PLACEHOLDER,
                dsl.PIPELINE_ROOT_PLACEHOLDER,
                dsl.PIPELINE_JOB_CREATE_TIME_UTC_PLACEHOLDER,
                dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER,
                "{{$.pipeline_google_cloud_project_id}}/{{$.pipeline_google_cloud_location}}",
                "{{$.inputs.parameters['table'].json_escape[1]}}",
            ],
        )

    @dsl.pipeline(name="tell")
    def pipeline() -> None:
        source = dsl.importer(artifact_uri="gs://bucket/data", artifact_class=Dataset, metadata={"rows": 5})
        tell(source=source.output, count=3, share=2.0, flag=True, items=[1, "b"], table={"a": {"b": 2}}, given="g")

    result = bench.run(pipeline, "tell-1")
    assert result.state == "SUCCEEDED", result.job.error
    told = result.log("tell").splitlines()
    task_id = str(result.records["tell"].task_id)
    assert told[:4] == ["3|2.0|true", '[1, "b"]', '{"a": {"b": 2}}', "--given=g"]
    assert told[4:8] == ["--none", "here", "--with", "g!"]
    assert told[8:11] == ["gs://bucket/data", str(bench.home.gcs / "bucket/data"), "5"]
    assert told[11].endswith(f"/tell-1/tell_{task_id}/model")
    assert told[12].isdigit()
    assert told[13:17] == [result.job.name, "tell", task_id, "gs://bucket/root"]
    assert told[17] == told[18] and told[17].endswith("Z")
    assert told[19:] == ["localvertex/us-central1", '{\\"a\\": {\\"b\\": 2}}']


def test_python_components_read_typed_inputs_and_return_typed_outputs(bench: Bench) -> None:
    @dsl.component(base_image="python:3.11")
    def work(
        count: int,
        share: float,
        flag: bool,
        items: list,
        table: dict,
        data: Output[Dataset],
        metrics: Output[Metrics],
        curve: Output[ClassificationMetrics],
    ) -> dict:
        with open(data.path, "w") as file:
            file.write("rows")
        data.metadata["rows"] = 4
        metrics.log_metric("accuracy", 0.5)
        curve.log_confusion_matrix(["a", "b"], [[1, 0], [0, 1]])
        return {"types": [type(each).__name__ for each in (count, share, flag, items, table)], "n": count + 1}

    @dsl.component(base_image="python:3.11")
    def read(data: Input[Dataset], table: dict, missing: str = None) -> int:  # type: ignore  # noqa: RUF013
        return len(open(data.path).read()) + data.metadata["rows"] + table["n"] + (missing is None)

    @dsl.pipeline(name="typed")
    def pipeline(count: int = 3, table: dict = {"x": 1}) -> int:  # noqa: B006
        worked = work(count=count, share=1.0, flag=False, items=[1], table=table)
        return read(data=worked.outputs["data"], table=worked.outputs["Output"]).output

    result = bench.run(pipeline)
    assert result.state == "SUCCEEDED", result.job.error
    assert result.output("work") == {"types": ["int", "float", "bool", "list", "dict"], "n": 4}
    assert result.output("read") == 4 + 4 + 4 + 1
    assert result.output("") == 13
    assert result.artifacts("work", "metrics")[0]["metadata"] == {"accuracy": 0.5}
    assert result.artifacts("work", "data")[0]["metadata"] == {"rows": 4}
    assert "pip" not in result.log("work")


def test_a_failing_task_is_named_with_its_exit_code_and_last_line(bench: Bench) -> None:
    @dsl.pipeline(name="failing")
    def pipeline() -> None:
        broken = fail(message="the disk is full")
        say(text="never").after(broken)

    result = bench.run(pipeline)
    assert result.state == "FAILED"
    assert "The DAG failed because some tasks failed. The failed tasks are: [fail]." in result.job.error.message
    assert "exited with code 7. Last line of its log: the disk is full" in result.job.error.message
    assert result.states == {"fail": "FAILED", "say": "NOT_TRIGGERED"}
    assert result.tasks["fail"].error.message.startswith("The container exited with code 7")


def test_an_output_of_the_wrong_type_fails_its_task(bench: Bench) -> None:
    @dsl.container_component
    def lie(number: dsl.OutputPath(int)):  # type: ignore
        return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'echo many > "$0"'], args=[number])

    @dsl.pipeline(name="lying")
    def pipeline() -> None:
        lie()

    result = bench.run(pipeline)
    assert "Output parameter 'number': expected NUMBER_INTEGER, got the text 'many" in result.job.error.message


def test_environment_variables_reach_the_container(bench: Bench) -> None:
    @dsl.container_component
    def env():  # type: ignore
        return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", "echo $COLOUR"])

    @dsl.pipeline(name="env")
    def pipeline() -> None:
        env().set_env_variable("COLOUR", "blue")

    assert bench.run(pipeline).log("env") == "blue\n"


def test_retries_get_a_fresh_folder_and_wait(bench: Bench) -> None:
    @dsl.container_component
    def third_time(mark: Output[Artifact]):
        script = (
            'task="$(dirname "$0")"; count="$(dirname "$task")/count"; echo x >> "$count"; '
            'ls -A "$task"; touch "$0"; [ "$(wc -l < "$count")" = 3 ]'
        )
        return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", script], args=[mark.path])

    @dsl.pipeline(name="retrying")
    def pipeline() -> None:
        third_time().set_retry(2, backoff_duration="0s")

    result = bench.run(pipeline)
    assert result.state == "SUCCEEDED", result.job.error
    assert result.records["third-time"].attempt == 2
    assert result.log("third-time") == ""
    assert result.artifacts("third-time", "mark")[0]["uri"].endswith("_2/mark")
    assert bench.run(pipeline).state == "SUCCEEDED"


def test_retries_come_to_an_end(bench: Bench) -> None:
    @dsl.pipeline(name="hopeless")
    def pipeline() -> None:
        fail(message="no").set_retry(1, backoff_duration="0s")

    result = bench.run(pipeline)
    assert result.state == "FAILED"
    assert len(result.executed()) == 2


def test_an_importer_reuses_what_was_imported_before(bench: Bench) -> None:
    def importing(reimport: bool) -> Any:
        @dsl.pipeline(name="importing")
        def pipeline(uri: str = "gs://bucket/data/a", rows: int = 5) -> None:
            dsl.importer(artifact_uri=uri, artifact_class=Dataset, reimport=reimport, metadata={"rows": rows})

        return pipeline

    first, second = bench.run(importing(False)), bench.run(importing(False))
    assert (first.states, second.states) == ({"importer": "SUCCEEDED"}, {"importer": "SKIPPED"})
    assert first.artifacts("importer", "artifact") == second.artifacts("importer", "artifact")
    again = bench.run(importing(True))
    assert again.states == {"importer": "SUCCEEDED"}
    assert again.artifacts("importer", "artifact")[0]["name"] != first.artifacts("importer", "artifact")[0]["name"]
    other = bench.run(importing(False), parameters={"rows": 6})
    assert other.states == {"importer": "SUCCEEDED"}


def test_the_job_shows_its_tasks_their_artifacts_and_executions(bench: Bench) -> None:
    @dsl.pipeline(name="shown")
    def pipeline() -> None:
        show(source=write(text="a").output)

    result = bench.run(pipeline, "shown-1")
    root = result.job.job_detail.task_details[0]
    assert (root.task_name, root.state.name, root.execution.schema_title) == ("shown-1", "SUCCEEDED", "system.Run")
    assert result.tasks["show"].parent_task_id == root.task_id
    made = result.tasks["write"].outputs["file"].artifacts[0]
    assert result.tasks["show"].inputs["source"].artifacts[0].name == made.name
    assert made.schema_title == "system.Dataset"
    assert result.tasks["show"].execution.metadata["output:text"] == "a"
    assert result.tasks["show"].execution.state.name == "COMPLETE"
    assert result.job.job_detail.pipeline_run_context.name.endswith("/contexts/shown-1")
    assert result.tasks["show"].start_time <= result.tasks["show"].end_time
    assert names.id_of(result.job.name) == "shown-1"
