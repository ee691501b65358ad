"""Protects ACCELERATOR=cpu|gpu|tpu: one compiled pipeline, whose parameters choose machine, image and backend."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pipelines import UserError, settings
from pipelines.cli import compile, run
from pipelines.cli.targets import TARGETS

SYSTEMS = ("crnn", "mnist", "iris", "ddsm")


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The compiled pipelines."""
    folder = tmp_path_factory.mktemp("accelerators")
    for system in SYSTEMS:
        compile.write(system, folder / f"{system}.json")
    return {system: compile.load(folder / f"{system}.json") for system in SYSTEMS}


def asked(specs: dict[str, Any], system: str, accelerators: str, arguments: str = "") -> dict[str, Any]:
    return run.parameters(
        system, specs[system], settings.environment("local"), TARGETS["local"], arguments, accelerators
    )


def pool(spec: dict[str, Any], values: dict[str, Any]) -> dict[str, Any]:
    """The worker pool of the first training, with a run's parameters in the places that wait for them."""
    component = spec["components"]["comp-train"]
    args = spec["deploymentSpec"]["executors"][component["executorLabel"]]["container"]["args"]
    payload = args[args.index("--payload") + 1]
    for name, definition in component["inputDefinitions"]["parameters"].items():
        value = values.get(name, definition.get("defaultValue"))
        text = value if isinstance(value, str) else json.dumps(value)
        payload = payload.replace(f"{{{{$.inputs.parameters['{name}']}}}}", text)
    (found,) = json.loads(payload)["job_spec"]["worker_pool_specs"]
    return dict(found)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(
    ("accelerator", "machine", "suffix", "backend"),
    [
        ("cpu", ("n1-standard-8", "", 0, ""), "", "tensorflow"),
        ("gpu", ("n1-standard-8", "NVIDIA_TESLA_T4", 1, ""), "-gpu", "tensorflow"),
        ("tpu", ("ct5lp-hightpu-4t", "", 0, "2x2"), "-tpu", "jax"),
    ],
)
def test_the_same_pipeline_trains_on_each(specs, system, accelerator, machine, suffix, backend) -> None:
    values = asked(specs, system, accelerator)
    found = pool(specs[system], values)
    names = ("machine_type", "accelerator_type", "accelerator_count", "tpu_topology")
    assert tuple(found["machine_spec"][name] for name in names) == machine
    container = found["container_spec"]
    assert container["env"] == [{"name": "KERAS_BACKEND", "value": backend}]
    tag = container["image_uri"].rpartition("/trainer:")[2]
    assert re.fullmatch(f"{system}-train-[0-9a-f]{{12}}{suffix}", tag)


@pytest.mark.parametrize("accelerator", ["cpu", "gpu", "tpu"])
def test_vertex_takes_the_machines(specs, accelerator) -> None:
    from google.cloud import aiplatform_v1

    from localvertex.machines import check

    found = pool(specs["ddsm"], asked(specs, "ddsm", accelerator))
    machine = {name: value for name, value in found["machine_spec"].items() if value}
    check(aiplatform_v1.MachineSpec(machine), "machine_spec")


def test_trials_run_on_it_too() -> None:
    from images.launcher.tune import Search, job

    search = Search(
        system="ddsm", examples="/gcs/b/e", trial_image="r/trainer:ddsm-trial-1-tpu", trial_epochs=1, trial_examples=1,
        max_trials=1, parallel_trials=1, seed=1,
        machine_type="ct5lp-hightpu-4t", tpu_topology="2x2", keras_backend="jax",
    )  # fmt: skip
    (found,) = job(search, "tune", "/gcs/b/rungs")["trial_job_spec"]["worker_pool_specs"]
    assert found["machine_spec"] == {"machine_type": "ct5lp-hightpu-4t", "tpu_topology": "2x2"}
    assert found["container_spec"]["env"] == [{"name": "KERAS_BACKEND", "value": "jax"}]


def test_two_are_trained_on_side_by_side_and_arguments_win(specs) -> None:
    values = asked(specs, "ddsm", "gpu,tpu", "machine_type=n1-standard-16")
    assert (values["machine_type"], values["accelerator_type"]) == ("n1-standard-16", "NVIDIA_TESLA_T4")
    assert (values["second_machine_type"], values["second_keras_backend"]) == ("ct5lp-hightpu-4t", "jax")
    assert "second_machine_type" not in asked(specs, "ddsm", "gpu")
    names = {
        task["taskInfo"]["name"]
        for name, component in specs["ddsm"]["components"].items()
        if name.startswith("comp-condition")
        for task in component["dag"]["tasks"].values()
    }
    assert {"train on the second accelerator", "compare the accelerators"} <= names


@pytest.mark.parametrize(
    ("system", "accelerators", "message"),
    [
        ("ddsm", "npu", "ACCELERATOR=npu: no npu; there are cpu, gpu, tpu"),
        ("ddsm", "tpu,tpu", "give one, or two different ones"),
        ("ddsm", "cpu,gpu,tpu", "give one, or two different ones"),
        ("ddsm", "gpu,", "no empty name"),
        ("iris", "cpu,gpu", "this pipeline is not trained on two accelerators"),
    ],
)
def test_a_mistake_is_one_message(specs, system: str, accelerators: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        asked(specs, system, accelerators)


def test_both_networks_of_ddsm_do_equally_many_multiplications() -> None:
    import math

    from images.trainer.systems.ddsm import model
    from images.trainer.systems.ddsm.hyperparameters import PRESETS

    chosen = settings.environment("local").pipelines["ddsm"]
    schema = {
        "image": {"height": chosen["image_height"], "width": chosen["image_width"]},
        "classes": ["1", "2", "3", "4"],
        "pixels": {"mean": 50.0, "deviation": 50.0},
    }

    def multiplications(name: str) -> int:
        """Of one image."""
        network = model.build(PRESETS[name], schema)
        return sum(
            math.prod(layer.kernel.shape) * math.prod(layer.output.shape[1:-1])
            for layer in network.layers
            if hasattr(layer, "kernel")
        )

    training_films = 1036  # Of the sample.
    ours = multiplications("residual") * chosen["train_epochs"] * training_films
    theirs = multiplications("tutorial") * chosen["tutorial_steps"] * PRESETS["tutorial"].batch_size
    assert theirs == pytest.approx(ours, rel=0.1)
