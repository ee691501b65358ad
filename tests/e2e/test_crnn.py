"""Protects the main promise: one command from a folder of words to an endpoint that reads, and caching after it."""

from __future__ import annotations

import json
from typing import Any

import psutil
import pytest

from tests.e2e.checkouts import Checkout, cached, executed

STAGES = {"ingest", "tune", "train", "evaluate", "export", "challenge", "deploy"}
# What is in the source, what the endpoint serves, how the run went: no cache can know.
LOOKS = {"snapshot", "champion", "notify"}
# Enough words and epochs to tell a good trial from a bad one and to learn to read; the README has the full score.
SMALL = "ARGS=max_trials=2 trial_epochs=2 trial_examples=3000 train_epochs=6"
SDK_RUN = """
import json, sys
from google.cloud import aiplatform

aiplatform.init(project="localvertex", location="us-central1")
earlier = aiplatform.PipelineJob.get(sys.argv[1])
parameters = json.loads(type(earlier.gca_resource).to_json(earlier.gca_resource))["runtimeConfig"]["parameterValues"]
job = aiplatform.PipelineJob(
    display_name="crnn",
    template_path="build/crnn.json",
    parameter_values=parameters,
    pipeline_root="gs://localvertex/pipelines",
)
job.submit()
job.wait()
tasks = {
    task.task_name: aiplatform.gapic.PipelineTaskDetail.State(task.state).name
    for task in job.gca_resource.job_detail.task_details
    if task.parent_task_id
}
scores = aiplatform.get_pipeline_df(pipeline="crnn")
scores = scores[scores.run_name == job.job_id]
service = aiplatform.gapic.MetadataServiceClient()
(endpoint,) = (
    artifact.name
    for task in job.gca_resource.job_detail.task_details
    for output in task.outputs.values()
    for artifact in output.artifacts
    if artifact.schema_title == "google.VertexEndpoint"
)
graph = service.query_artifact_lineage_subgraph(artifact=endpoint)
lineage = {}
for artifact in graph.artifacts:
    lineage[artifact.schema_title] = lineage.get(artifact.schema_title, "") + " " + artifact.uri
print(json.dumps({"tasks": tasks, "cer": float(scores["metric.cer"].iloc[0]), "lineage": lineage}))
"""


@pytest.fixture(scope="module")
def cold(checkout: Checkout) -> dict[str, Any]:
    checkout.make("sample", "PIPELINE=crnn", "COUNT=3000")
    return checkout.run("crnn", SMALL)


@pytest.fixture(scope="module")
def unchanged(checkout: Checkout, cold: dict[str, Any]) -> dict[str, Any]:
    return checkout.run("crnn", SMALL)


@pytest.fixture(scope="module")
def through_the_sdk(checkout: Checkout, cold: dict[str, Any]) -> dict[str, Any]:
    """What a script of the user's sees that runs the same JSON with the SDK and imports nothing of ours."""
    return checkout.script(SDK_RUN, cold["run"])


@pytest.fixture(scope="module")
def stage_edited(checkout: Checkout, unchanged: dict[str, Any], through_the_sdk: dict[str, Any]) -> dict[str, Any]:
    stage = checkout.folder / "images" / "trainer" / "evaluate.py"
    stage.write_text(stage.read_text() + "\n# edited\n")
    return checkout.run("crnn", SMALL)


def test_cold_run_executes_every_stage_and_reads_words(cold: dict[str, Any]) -> None:
    assert cold["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert executed(cold) >= STAGES
    assert cached(cold) == set()
    assert 0 <= cold["metrics"]["cer"] < 0.6
    assert set(cold["metrics"]) >= {"cer", "wer", "exact_match"}
    assert len(cold["predictions"]) == 5
    for prediction in cold["predictions"]:
        assert prediction["truth"]
        assert 0 <= prediction["confidence"] <= 1


def test_unchanged_run_only_looks_around(cold: dict[str, Any], unchanged: dict[str, Any]) -> None:
    assert executed(unchanged) == LOOKS
    assert unchanged["data"].startswith(f"unchanged since {cold['run'].rpartition('/')[2]}: ")
    assert cold["data"].startswith("new data: ") and cold["release"].startswith("promoted: ")
    assert cached(unchanged) >= STAGES
    assert unchanged["run"] != cold["run"]
    assert {key: unchanged[key] for key in ("metrics", "model", "endpoint")} == {
        key: cold[key] for key in ("metrics", "model", "endpoint")
    }


def test_unchanged_run_leaves_no_log_of_another_task(checkout: Checkout, unchanged: dict[str, Any]) -> None:
    run = unchanged["run"].rsplit("/", 1)[-1]
    logs = (checkout.folder / ".localvertex" / "logs").glob(f"{run}/**/*.log")
    assert {log.stem.rpartition(".")[2] for log in logs} <= LOOKS


def test_sdk_runs_the_same_json_from_the_cache(cold: dict[str, Any], through_the_sdk: dict[str, Any]) -> None:
    tasks = through_the_sdk["tasks"]
    assert {tasks[name] for name in tasks.keys() - LOOKS - {"exit-handler-1", "release"}} == {"SKIPPED"}
    assert set(tasks) >= STAGES
    assert through_the_sdk["cer"] == cold["metrics"]["cer"]


def test_sdk_follows_lineage_from_endpoint_to_source(cold: dict[str, Any], through_the_sdk: dict[str, Any]) -> None:
    found = through_the_sdk["lineage"]
    assert cold["endpoint"] in found["google.VertexEndpoint"]
    assert "gs://localvertex/data/crnn/" in found["system.Artifact"]
    assert set(found) >= {"google.VertexModel", "system.Model", "system.Dataset", "system.Metrics"}


def test_edited_stage_runs_again_and_nothing_before_it(stage_edited: dict[str, Any]) -> None:
    assert "evaluate" in executed(stage_edited)
    assert cached(stage_edited) >= {"ingest", "tune", "train"}


def test_lineage_reaches_from_endpoint_to_source(checkout: Checkout, stage_edited: dict[str, Any]) -> None:
    printed = checkout.make("lineage", "PIPELINE=crnn").stdout
    order = [printed.index(word) for word in ("endpoint", "saved_model", "examples", "gs://localvertex/data/crnn/")]
    assert order == sorted(order), printed


def test_predict_answers_for_a_file(checkout: Checkout, stage_edited: dict[str, Any]) -> None:
    word = next((checkout.folder / "data" / "crnn" / "words").rglob("*.png"))
    assert "confidence" in checkout.make("predict", "PIPELINE=crnn", f"INPUT={word}").stdout.lower()


def test_compiled_pipeline_is_the_same_twice_and_holds_no_path(checkout: Checkout, cold: dict[str, Any]) -> None:
    compiled = checkout.folder / "build" / "crnn.json"
    checkout.make("compile", "PIPELINE=crnn")
    first = compiled.read_bytes()
    compiled.unlink()
    checkout.make("compile", "PIPELINE=crnn")
    assert compiled.read_bytes() == first
    assert str(checkout.folder) not in first.decode()
    assert json.loads(first)["schemaVersion"].startswith("2.1")


def test_one_changed_image_runs_ingest_again_and_a_run_can_be_cancelled(
    checkout: Checkout, stage_edited: dict[str, Any]
) -> None:
    """Kept near the end: it changes the data."""
    first, second = sorted((checkout.folder / "data" / "crnn" / "words").rglob("*.png"))[:2]
    second.write_bytes(first.read_bytes())
    run = checkout.start("run", "PIPELINE=crnn", SMALL)
    assert run.stdout is not None
    printed = []
    for line in run.stdout:
        printed.append(line)
        if line.startswith("tune       running"):
            name = next(shown.split()[1] for shown in printed if shown.startswith("run "))
            checkout.pipelines("cancel", "--pipeline", "crnn", "--run", name.rsplit("/", 1)[-1])
    assert run.wait() != 0, "".join(printed)
    changed = checkout.summary("crnn")
    assert changed["state"] == "PIPELINE_STATE_CANCELLED"
    assert executed(changed) >= {"ingest"}
    assert "tune" not in cached(changed)


def test_stop_leaves_no_process(checkout: Checkout, stage_edited: dict[str, Any]) -> None:
    checkout.make("stop")
    mark = str(checkout.folder / ".localvertex")
    left = [process for process in psutil.process_iter(["cmdline"]) if mark in " ".join(process.info["cmdline"] or [])]
    assert left == []
