"""Protects the compiled pipeline: the same bytes everywhere, of no machine, accepted by the SDK."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.cli import compile, graph

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline compiled by this process."""
    path = tmp_path_factory.mktemp("compile") / "crnn.json"
    compile.write("crnn", path)
    return path


@pytest.fixture
def spec(written: Path) -> dict[str, Any]:
    """What was compiled."""
    return compile.load(written)


def test_two_processes_write_the_same_bytes(written: Path, tmp_path: Path) -> None:
    code = "import pathlib, sys; from pipelines.cli import compile\ncompile.write('crnn', pathlib.Path(sys.argv[1]))"
    for seed in ("1", "2"):
        other = tmp_path / seed / "elsewhere.json"
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Tokyo", "HOME": str(tmp_path)}
        subprocess.run([sys.executable, "-c", code, str(other)], cwd=ROOT, env=environment, check=True)
        assert other.read_bytes() == written.read_bytes()


def test_nothing_of_this_machine(written: Path) -> None:
    text = written.read_text()
    for trace in (str(ROOT), str(Path.home()), sys.prefix, os.uname().nodename, "/tmp/"):
        assert trace not in text


def test_the_sdk_loads_it(written: Path) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import aiplatform

    job = aiplatform.PipelineJob(
        display_name="crnn",
        template_path=str(written),
        pipeline_root="gs://bucket/root",
        project="some-project",
        location="us-central1",
        credentials=AnonymousCredentials(),
        parameter_values={"source": "gs://bucket/data", "max_trials": 2},
    )
    assert job.to_dict()["pipelineSpec"]["pipelineInfo"]["name"] == "crnn"


def test_tasks_and_their_order(spec: dict[str, Any]) -> None:
    names = list(graph.names(spec).values())
    stages = {"source", "ingest", "tune", "train", "evaluate", "export"}
    assert set(names) == stages | {"snapshot", "champion", "champion model", "challenge", "deploy", "notify"}
    for before, after in (
        ("source", "ingest"),
        ("ingest", "tune"),
        ("tune", "train"),
        ("evaluate", "deploy"),
        ("snapshot", "source"),
        ("champion", "challenge"),
        ("challenge", "deploy"),
        ("deploy", "notify"),
    ):
        assert names.index(before) < names.index(after)


def test_the_training_machine_is_chosen_at_run_time(spec: dict[str, Any]) -> None:
    args = spec["deploymentSpec"]["executors"]["exec-train"]["container"]["args"]
    values = {"machine_type": "n1-standard-8", "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 2}
    pool = worker_pool(spec, args, values)
    assert pool["machine_spec"] == {**values, "tpu_topology": ""}


def test_the_training_job_is_what_the_api_takes(spec: dict[str, Any]) -> None:
    from google.cloud import aiplatform_v1

    args = spec["deploymentSpec"]["executors"]["exec-train"]["container"]["args"]
    values = {"machine_type": "n1-standard-8", "accelerator_type": "NVIDIA_TESLA_T4", "accelerator_count": 2}
    sent = aiplatform_v1.WorkerPoolSpec(worker_pool(spec, args, values))
    assert sent.machine_spec.accelerator_count == 2
    assert sent.container_spec.command == ["python", "-m", "images.trainer.train"]


def worker_pool(spec: dict[str, Any], args: list[str], values: dict[str, Any]) -> dict[str, Any]:
    """The training job's worker pool, with a run's parameters in the places that wait for them."""
    payload = args[args.index("--payload") + 1]
    inputs = spec["components"]["comp-train"]["inputDefinitions"]["parameters"]
    for name, definition in inputs.items():
        value = values.get(name, definition.get("defaultValue"))
        text = value if isinstance(value, str) else json.dumps(value)
        payload = payload.replace(f"{{{{$.inputs.parameters['{name}']}}}}", text)
    (pool,) = json.loads(payload)["job_spec"]["worker_pool_specs"]
    return dict(pool)


def test_caching_does_not_depend_on_the_run(spec: dict[str, Any]) -> None:
    """The run's name may stand in a container's arguments, hashed as they are written, but in no input."""
    for component in spec["components"].values():
        assert "pipeline_job_name" not in json.dumps(component)


def test_only_what_looks_outside_is_never_taken_from_the_cache(spec: dict[str, Any]) -> None:
    dags = [component["dag"] for component in (spec["root"], *spec["components"].values()) if "dag" in component]
    tasks = {task["taskInfo"]["name"]: task for dag in dags for task in dag["tasks"].values()}
    uncached = {name for name, task in tasks.items() if not task.get("cachingOptions", {}).get("enableCache")}
    assert uncached - {"exit-handler-1"} == {"snapshot", "champion", "notify"}


def test_a_fresh_result_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compile, "BUILD", tmp_path)
    first = compile.compiled("crnn")
    monkeypatch.setattr(compile, "write", lambda *_: pytest.fail("compiled again"))
    assert compile.compiled("crnn") == first


def test_an_altered_result_is_compiled_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(compile, "BUILD", tmp_path)
    path = compile.compiled("crnn")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert compile.compiled("crnn").read_bytes() == whole
