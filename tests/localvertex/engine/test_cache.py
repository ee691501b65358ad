"""Protects caching: what is answered from the cache, what is not, and that answering starts no process."""

from pathlib import Path
from typing import Any

import pytest
from google.cloud.aiplatform_v1.types import Artifact as ArtifactResource
from google.cloud.aiplatform_v1.types import Model as ModelResource
from kfp import dsl
from kfp.dsl import Dataset, Metrics, Output

from tests.localvertex.engine.pieces import copy, say, show, write, write_folder
from tests.localvertex.engine.support import Bench, Result


@dsl.pipeline(name="chain")
def chain(text: str = "a", note: str = "n") -> None:
    folder = write_folder(text=text)
    copy(source=folder.output)
    say(text=note)


def test_an_unchanged_run_starts_no_process_and_keeps_its_artifacts(bench: Bench) -> None:
    first, second = bench.run(chain), bench.run(chain)
    assert first.executed() == ["copy", "say", "write-folder"]
    assert second.executed() == []
    assert set(second.states.values()) == {"SKIPPED"}
    assert second.state == "SUCCEEDED"
    assert second.artifacts("copy", "target") == first.artifacts("copy", "target")
    assert second.output("say", "said") == "n"
    assert second.tasks["copy"].execution.state.name == "CACHED"


def test_only_what_a_change_reaches_runs_again(bench: Bench) -> None:
    bench.run(chain)
    assert bench.run(chain, parameters={"note": "other"}).executed() == ["say"]
    assert bench.run(chain, parameters={"text": "b"}).executed() == ["copy", "write-folder"]


def test_content_counts_not_where_it_lies(bench: Bench) -> None:
    @dsl.pipeline(name="same")
    def same(text: str, spare: str) -> None:
        show(source=write(text=text).set_env_variable("SPARE", "1").output)

    def with_image(image: str) -> Any:
        @dsl.container_component
        def make(file: Output[Dataset]):
            return dsl.ContainerSpec(image=image, command=["sh", "-c", 'printf same > "$0"'], args=[file.path])

        @dsl.pipeline(name="same")
        def pipeline() -> None:
            show(source=make().output)

        return pipeline

    assert bench.run(with_image("maker:1")).executed() == ["make", "show"]
    assert bench.run(with_image("maker:2")).executed() == ["make"]


@pytest.mark.parametrize("damage", ["alter", "delete", "add"])
def test_an_output_that_was_touched_is_made_again(bench: Bench, damage: str) -> None:
    first = bench.run(chain)
    folder = bench.buckets.path(first.artifacts("write-folder", "folder")[0]["uri"])
    _damage(folder, damage)
    again = bench.run(chain)
    # What follows has inputs of the same content as before.
    assert again.executed() == ["write-folder"]


def _damage(folder: Path, damage: str) -> None:
    if damage == "alter":
        (folder / "inner/a").write_text("z")
    elif damage == "delete":
        (folder / "b").unlink()
    else:
        (folder / "new").write_text("")


def test_changed_data_behind_an_importer_runs_what_reads_it(bench: Bench) -> None:
    @dsl.pipeline(name="imported")
    def imported() -> None:
        show(source=dsl.importer(artifact_uri="gs://bucket/data", artifact_class=Dataset).output)

    bench.buckets.ensure("bucket")
    data = bench.buckets.path("gs://bucket/data")
    data.write_text("1")
    assert bench.run(imported).executed() == ["show"]
    second = bench.run(imported)
    assert (second.executed(), second.states) == ([], {"importer": "SKIPPED", "show": "SKIPPED"})
    data.write_text("2")
    assert bench.run(imported).executed() == ["show"]


def test_a_task_that_may_not_be_cached_runs(bench: Bench) -> None:
    @dsl.pipeline(name="fresh")
    def fresh() -> None:
        say(text="x").set_caching_options(False)

    bench.run(fresh)
    assert bench.run(fresh).executed() == ["say"]


def test_a_failed_task_is_not_cached(bench: Bench) -> None:
    @dsl.container_component
    def flaky(mark: str, text: dsl.OutputPath(str)):  # type: ignore
        script = 'test -e "$0" || { touch "$0"; exit 1; }; printf ok > "$1"'
        return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", script], args=[mark, text])

    @dsl.pipeline(name="flaky")
    def pipeline(mark: str) -> None:
        flaky(mark=mark)

    values = {"mark": str(bench.folder / "mark")}
    states = [bench.run(pipeline, parameters=values).states["flaky"] for _ in range(3)]
    assert states == ["FAILED", "SUCCEEDED", "SKIPPED"]


def test_names_of_the_run_do_not_break_caching(bench: Bench) -> None:
    @dsl.container_component
    def named(name: str = f"{dsl.PIPELINE_JOB_NAME_PLACEHOLDER}-train"):
        return dsl.ContainerSpec(image="alpine:3", command=["echo"], args=[name, dsl.PIPELINE_JOB_ID_PLACEHOLDER])

    @dsl.pipeline(name="named")
    def pipeline() -> None:
        named()

    first = bench.run(pipeline, "named-1")
    assert first.log("named").startswith("named-1-train ")
    assert bench.run(pipeline, "named-2").executed() == []


def test_metrics_count_by_what_they_say(bench: Bench) -> None:
    def scoring(image: str) -> Any:
        @dsl.component(base_image=image, install_kfp_package=False)
        def score(value: float, metrics: Output[Metrics]) -> None:
            metrics.log_metric("score", value)

        @dsl.container_component
        def judge(metrics: dsl.Input[Metrics]):
            return dsl.ContainerSpec(image="alpine:3", command=["echo"], args=[metrics.metadata["score"]])

        @dsl.pipeline(name="scoring")
        def pipeline(value: float) -> None:
            judge(metrics=score(value=value).outputs["metrics"])

        return pipeline

    first = bench.run(scoring("python:1"), parameters={"value": 0.5})
    assert first.log("judge") == "0.5\n"
    assert bench.run(scoring("python:2"), parameters={"value": 0.5}).executed() == ["score"]
    assert bench.run(scoring("python:2"), parameters={"value": 0.75}).executed() == ["judge", "score"]


def test_a_resource_that_was_deleted_is_made_again(bench: Bench) -> None:
    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def register(name: str, model: Output[dsl.Artifact]) -> None:
        model.metadata["resourceName"] = name

    @dsl.pipeline(name="register")
    def pipeline(name: str) -> None:
        register(name=name)

    there = bench.run(chain).job.name
    bench.store.create(ModelResource(name=f"{bench.parent}/models/7/versions/2"))
    model = f"{bench.parent}/models/7"
    found = [(there, []), (model, []), (f"{model}@2", [])]
    for name, executed in [*found, (there + "x", ["register"]), (f"{model}@3", ["register"])]:
        bench.run(pipeline, parameters={"name": name})
        assert bench.run(pipeline, parameters={"name": name}).executed() == executed


def test_an_artifact_that_was_deleted_from_the_metadata_is_made_again(bench: Bench) -> None:
    (folder,) = bench.run(chain).artifacts("write-folder", "folder")
    bench.store.delete(ArtifactResource, folder["name"])
    again = bench.run(chain)
    assert again.state == "SUCCEEDED"
    assert again.executed() == ["write-folder"]
    assert bench.run(chain).executed() == []


def test_the_fingerprint_says_what_went_into_a_task(bench: Bench) -> None:
    result: Result = bench.run(chain)
    fingerprint = result.records["copy"].fingerprint
    for part in ("image", "command", "arguments", "environment", "parameters", "artifacts", "component"):
        assert f'"{part}"' in fingerprint
