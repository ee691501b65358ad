"""Protects ddsm's training: as on a TPU with JAX and bfloat16, with a worker killed, from another network's weights."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys

import pytest

from images.executor import UserError
from images.trainer.train import train
from localvertex.home import Home
from tests.localvertex.jobs.support import Service, until
from tests.localvertex.processes import workloads

TOLERANCES = (0.02, 0.1)
"""Between the losses of TensorFlow in float32 and of JAX in bfloat16, whose numbers have eight significant bits, from
the same initial weights: in the first epoch, and in the second, by when small differences have grown. They were seen to
be 0.009 and 0.043."""

EIGHT = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
CHOSEN = {"learning_rate": 2e-3, "dropout": 0.0, "augmentation": 0.5, "batch_size": 16, "width": 8}

# Two epochs, as on a TPU if the first argument says so; prints what came of them. Both begin with the same weights: the
# first process leaves them to the second.
LEARN = """
import json, os, sys
import keras
import numpy as np
if sys.argv[1] == "tpu":
    import jax
    devices = jax.default_backend
    jax.default_backend = lambda: "tpu"
from images.trainer import hyperparameters
from images.trainer.learning import Learner

chosen = hyperparameters.parse(hyperparameters.of("ddsm"), json.loads(sys.argv[3]))
learner = Learner("ddsm", sys.argv[2], chosen, 2, seed=1)
batches = {tuple(tuple(part.shape) for part in batch) for number in (1, 2) for batch in learner._training_data(number)}
if os.path.exists(sys.argv[4]):
    learner.network.set_weights(list(np.load(sys.argv[4]).values()))
else:
    np.savez(sys.argv[4], *learner.weights())
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


def learned(examples, device, weights, **environment):
    command = [sys.executable, "-c", LEARN, device, str(examples), json.dumps(CHOSEN), str(weights)]
    made = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, check=False)
    assert made.returncode == 0, made.stderr
    return json.loads(made.stdout.splitlines()[-1])


def test_as_on_a_tpu_it_learns_what_it_learns_with_tensorflow(examples, tmp_path):
    cpu = learned(examples, "cpu", tmp_path / "weights.npz")
    tpu = learned(examples, "tpu", tmp_path / "weights.npz", **EIGHT)
    # Every batch is full, so nothing is compiled anew for the last; 16 films are 2 for each device.
    assert tpu["batches"] == [[[CHOSEN["batch_size"], 64, 48], [CHOSEN["batch_size"], 4]]]
    assert tpu["compiled_later"] <= 1
    assert (tpu["devices"], tpu["judged_on"]) == (8, 8)
    assert (tpu["policy"], tpu["weights"]) == ("mixed_bfloat16", ["float32"])
    assert tpu["losses"][1] < tpu["losses"][0]
    assert cpu["policy"] == "float32"
    for name in ("losses", "val_losses"):
        for ours, theirs, tolerance in zip(tpu[name], cpu[name], TOLERANCES, strict=True):
            assert ours == pytest.approx(theirs, rel=tolerance), name


@pytest.fixture(scope="module")
def survived(tmp_path_factory, examples):
    """What a training on two workers leaves of which one is killed after the first epoch: a folder, and the log."""
    out = tmp_path_factory.mktemp("survived")
    (out / "chosen.json").write_text(json.dumps(CHOSEN))
    training = [
        *("python", "-m", "images.trainer.train", "--system=ddsm", "--epochs=3", f"--examples={examples}"),
        *(f"--hyperparameters={out}/chosen.json", f"--checkpoints={out}/checkpoints", f"--model={out}/model"),
    ]
    pool = {
        "container_spec": {"image_uri": "example.test/trainer:1", "command": training},
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": 1,
    }
    with contextlib.closing(Service(Home(tmp_path_factory.mktemp("home")).create())) as service:
        restart = {"restart_job_on_worker_restart": True}
        job = service.custom("", wait=False, worker_pool_specs=[pool, pool], scheduling=restart)
        until(lambda: "epoch 1/" in service.log(job))
        _, worker = workloads(service.home)[:2]
        worker.send_signal(signal.SIGKILL)
        job = service.finished(job)
        assert job.state.name == "JOB_STATE_SUCCEEDED", job.error.message
        return out, service.log(job)


def history(model):
    with (model / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_killed_worker_costs_an_epoch_at_most(survived):
    out, log = survived
    assert "resuming after epoch" in log
    rows = history(out / "model")
    assert [int(row["epoch"]) for row in rows] == [1, 2, 3]
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"])
    assert json.loads((out / "model" / "training.json").read_text())["workers"] == 2


def test_weights_of_another_network_are_taken_by_name(survived, examples, tmp_path, stage):
    (tmp_path / "chosen.json").write_text(json.dumps(CHOSEN))
    (tmp_path / "wider.json").write_text(json.dumps({**CHOSEN, "width": 12}))
    bucket = tmp_path / "bucket"
    bucket.mkdir()
    (bucket / "examples").symlink_to(examples)
    (bucket / "first").symlink_to(survived[0] / "model")
    made = stage(
        "trainer.train", "--system=ddsm", f"--examples={bucket}/examples", "--epochs=1",
        f"--hyperparameters={tmp_path}/chosen.json", f"--checkpoints={tmp_path}/checkpoints",
        f"--model={bucket}/second", "--initial_weights=gs://bucket/first/model.keras",
        "--examples_uri=gs://bucket/examples",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "16 of 16 layers begin with the weights of gs://bucket/first/model.keras" in made.stdout
    random, taken = (history(bucket / name)[0]["loss"] for name in ("first", "second"))
    assert float(taken) < 0.9 * float(random), "its first epoch begins no better than with random weights"
    for weights, problem in (
        ("first/model.keras", "none of its layers has the name and shapes of one of this network's 16"),
        ("nothing.keras", "no such file"),
    ):
        with pytest.raises(UserError, match=f"^--initial_weights=.*{problem}"):
            train(
                "ddsm", f"{bucket}/examples", f"{tmp_path}/wider.json", epochs=1, seed=1,
                checkpoints=f"{tmp_path}/third", model=f"{bucket}/third",
                initial_weights=f"gs://bucket/{weights}", examples_uri="gs://bucket/examples",
            )  # fmt: skip
    assert not (bucket / "third").exists()
