"""Protects ddsm's training: as on a TPU with JAX on eight devices in bfloat16, and from another network's weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

EIGHT = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
CHOSEN = {"learning_rate": 2e-3, "dropout": 0.0, "augmentation": 0.5, "batch_size": 16, "width": 8}

# Two epochs, as on a TPU if the first argument says so; prints what came of them.
LEARN = """
import json, sys
import keras
if sys.argv[1] == "tpu":
    import jax
    devices = jax.default_backend
    jax.default_backend = lambda: "tpu"
from images.trainer import hyperparameters
from images.trainer.learning import Learner

chosen = hyperparameters.parse(hyperparameters.of("ddsm"), json.loads(sys.argv[3]))
learner = Learner("ddsm", sys.argv[2], chosen, 2, seed=1)
batches = {tuple(tuple(part.shape) for part in batch) for number in (1, 2) for batch in learner._training_data(number)}
if sys.argv[1] == "tpu":
    jax.default_backend = devices
    tally = []
    whole = jax.monitoring.register_event_duration_secs_listener(
        lambda name, seconds, **_: tally.append(name) if "backend_compile" in name else None)
first = learner.learn(1)
compiled = len(tally) if sys.argv[1] == "tpu" else 0
second = learner.learn(2)
found = {
    "batches": sorted(batches),
    "losses": [first.loss, second.loss],
    "val_losses": [first.val_loss, second.val_loss],
    "policy": keras.config.dtype_policy().name,
    "weights": sorted({str(weight.dtype) for weight in learner.network.weights}),
    "compiled_later": len(tally) - compiled if sys.argv[1] == "tpu" else 0,
}
if sys.argv[1] == "tpu":
    distribution = keras.distribution.distribution()
    found["devices"] = distribution.device_mesh.devices.size
    found["judged_on"] = learner._backend._parts.mesh.size
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def examples(tmp_path_factory, stage):
    """Examples of 24 patients."""
    folder = tmp_path_factory.mktemp("phantoms")
    for module, flags in (
        ("sample", ("--count=96", "--seed=3", f"--out={folder}/source")),
        ("ingest", (f"--source={folder}/source", f"--examples={folder}/examples", "--height=64", "--width=48")),
    ):
        made = stage(f"trainer.{module}", "--system=ddsm", *flags)
        assert made.returncode == 0, made.stderr
    return folder / "examples"


def learned(examples, device, **environment):
    command = [sys.executable, "-c", LEARN, device, str(examples), json.dumps(CHOSEN)]
    made = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout.splitlines()[-1])


def test_it_trains_as_on_a_tpu(examples):
    tpu = learned(examples, "tpu", **EIGHT)
    # Every batch is full, so nothing is compiled anew for the last; 16 films are 2 for each device.
    assert tpu["batches"] == [[[CHOSEN["batch_size"], 64, 48], [CHOSEN["batch_size"], 4]]]
    assert tpu["compiled_later"] <= 1
    assert (tpu["devices"], tpu["judged_on"]) == (8, 8)
    assert (tpu["policy"], tpu["weights"]) == ("mixed_bfloat16", ["float32"])
    assert tpu["losses"][1] < tpu["losses"][0]


def test_weights_of_another_network_are_taken_by_name(examples, tmp_path, stage):
    (tmp_path / "chosen.json").write_text(json.dumps(CHOSEN))
    (tmp_path / "wider.json").write_text(json.dumps({**CHOSEN, "width": 12}))
    (tmp_path / "bucket").mkdir()
    (tmp_path / "bucket" / "examples").symlink_to(examples)

    def train(name, hyperparameters, *flags, epochs=1):
        return stage(
            "trainer.train", "--system=ddsm", f"--examples={tmp_path}/bucket/examples", f"--epochs={epochs}",
            f"--hyperparameters={tmp_path}/{hyperparameters}.json", f"--checkpoints={tmp_path}/{name}-checkpoints",
            f"--model={tmp_path}/bucket/{name}", *flags,
        )  # fmt: skip

    made = train("first", "chosen", epochs=3)
    assert made.returncode == 0, made.stderr
    flags = ("--initial_weights=gs://bucket/first/model.keras", "--examples_uri=gs://bucket/examples")
    made = train("second", "chosen", *flags)
    assert made.returncode == 0, made.stderr
    assert "16 of 16 layers begin with the weights of gs://bucket/first/model.keras" in made.stdout
    losses = [
        json.loads((tmp_path / "bucket" / name / "training.json").read_text())["loss"] for name in ("first", "second")
    ]
    assert losses[1] < losses[0]
    refused = train("third", "wider", *flags)
    assert refused.returncode == 2
    assert "none of its layers has the name and shapes of one of this network's 16" in refused.stderr
    assert refused.stderr.splitlines()[-1].startswith("error: --initial_weights=")
    missing = train("fourth", "chosen", "--initial_weights=gs://bucket/nothing.keras", flags[1])
    assert missing.returncode == 2 and "no such file" in missing.stderr
    assert not (tmp_path / "bucket" / "third").exists()
