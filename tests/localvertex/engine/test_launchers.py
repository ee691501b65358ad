"""Protects what GCPC's launchers are told: placeholders in a parameter's default, escaped for the JSON around."""

import json
from typing import Any

from google_cloud_pipeline_components.v1.custom_job import create_custom_training_job_from_component
from kfp import dsl
from kfp.dsl import Dataset, Input, Model, Output

from tests.localvertex.engine.pieces import write
from tests.localvertex.engine.support import Bench, compiled


@dsl.container_component
def train(data: Input[Dataset], note: str, epochs: int, model: Output[Model]):
    return dsl.ContainerSpec(
        image="trainer:1",
        command=["python", "-m", "train"],
        args=[f"--data={data.path}", f"--note={note}", f"--epochs={epochs}", f"--model={model.path}", "{{$}}"],
    )


def test_a_custom_job_from_a_component_gets_its_payload(bench: Bench) -> None:
    job = create_custom_training_job_from_component(
        train, display_name=f"{dsl.PIPELINE_JOB_NAME_PLACEHOLDER}-train", replica_count=2, machine_type="n1-standard-4"
    )

    @dsl.pipeline(name="launching")
    def launching() -> None:
        job(data=write(text="x").output, note='a "quoted" note', epochs=3)

    spec = compiled(launching, bench.folder / "spec.json")
    container = spec["deploymentSpec"]["executors"]["exec-train"]["container"]
    container["command"] = ["python", "-c", "import json, sys; print(json.dumps(sys.argv))"]
    result = bench.run(spec, "launch-1")
    assert result.state == "SUCCEEDED", result.job.error
    told: list[str] = json.loads(result.log("train"))
    payload: dict[str, Any] = json.loads(told[told.index("--payload") + 1].replace('note=a "quoted" note', "note"))
    assert payload["display_name"] == "launch-1-train"
    first, second = payload["job_spec"]["worker_pool_specs"]
    assert (first["replica_count"], second["replica_count"]) == (1, 1)
    assert isinstance(first["replica_count"], int)
    args = first["container_spec"]["args"]
    data, model = result.artifacts("write", "file")[0], result.artifacts("train", "model")[0]
    assert args[0] == f"--data={bench.buckets.path(data['uri'])}"
    assert args[2] == "--epochs=3"
    assert args[3] == f"--model={bench.buckets.path(model['uri'])}"
    inner = json.loads(args[4])
    assert inner["inputs"]["parameterValues"]["note"] == 'a "quoted" note'
    assert inner["outputs"]["artifacts"]["model"]["artifacts"][0]["uri"] == model["uri"]
    assert told[told.index("--project") + 1] == "localvertex"
    assert told[told.index("--location") + 1] == "us-central1"
    assert bench.run(spec, "launch-2").executed() == []
