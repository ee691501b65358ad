"""Protects the training component: several replicas are one job that is started again as a whole."""

import json
from pathlib import Path
from typing import Any

import pytest
from kfp import compiler

import components

VALUES = {
    "machine_type": "n1-standard-8",
    "accelerator_type": "NVIDIA_TESLA_T4",
    "accelerator_count": 2,
}


def job(folder: Path, replicas: int) -> dict[str, Any]:
    """The CustomJob that the component asks for, with a run's parameters in the places that wait for them."""
    path = folder / f"{replicas}.json"
    compiler.Compiler().compile(components.train("mnist", "trainer:1", replicas), str(path))
    spec = json.loads(path.read_text())
    (component,) = (each for each in spec["components"].values() if "executorLabel" in each)
    args = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]["args"]
    payload = args[args.index("--payload") + 1]
    for parameter, definition in component["inputDefinitions"]["parameters"].items():
        value = VALUES.get(parameter, definition.get("defaultValue"))
        text = value if isinstance(value, str) else json.dumps(value)
        payload = payload.replace(f"{{{{$.inputs.parameters['{parameter}']}}}}", text)
    return dict(json.loads(payload)["job_spec"])


@pytest.mark.parametrize(("replicas", "counts"), [(1, [1]), (2, [1, 1]), (4, [1, 3])])
def test_replicas_are_a_chief_and_its_workers(tmp_path: Path, replicas: int, counts: list[int]) -> None:
    spec = job(tmp_path, replicas)
    pools = spec["worker_pool_specs"]
    assert [pool["replica_count"] for pool in pools] == counts
    assert all(pool["machine_spec"] == {**VALUES, "tpu_topology": ""} for pool in pools)
    assert all(pool["container_spec"] == pools[0]["container_spec"] for pool in pools)
    assert str(spec["scheduling"]["restart_job_on_worker_restart"]).lower() == str(replicas > 1).lower()
