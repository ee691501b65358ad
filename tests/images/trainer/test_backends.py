"""Protects training with JAX: on eight devices it learns what TensorFlow does, and export and evaluate take it over."""

import json
import os
import subprocess
import sys

import pytest

TOLERANCE = 5e-3
"""Between the losses of both backends from the same initial weights, which either would draw differently."""

EIGHT = {"KERAS_BACKEND": "jax", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
DIGITS = {"architecture": "classic", "learning_rate": 5e-4, "batch_size": 64, "dropout": 0.0, "augmentation": 0.6}
WORDS = {"learning_rate": 1e-3, "dropout": 0.0}

# Learns for some steps and prints what each epoch gave; the first process leaves its initial weights to the second.
LEARN = """
import dataclasses, json, os, sys
import numpy as np
from images.trainer import hyperparameters
from images.trainer.learning import Learner

for system, examples, values, epochs, limit in json.loads(sys.argv[1]):
    chosen = hyperparameters.parse(hyperparameters.of(system), values)
    learner = Learner(system, examples, chosen, epochs, seed=1, limit=limit)
    file = f"{sys.argv[2]}/{system}.npz"
    if os.path.exists(file):
        learner.network.set_weights(list(np.load(file).values()))
    else:
        np.savez(file, *learner.weights())
    print(json.dumps([dataclasses.asdict(learner.learn(epoch + 1)) for epoch in range(epochs)]))
"""


def learned(tasks, folder, **environment):
    made = subprocess.run(
        [sys.executable, "-c", LEARN, json.dumps(tasks), str(folder)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert made.returncode == 0, made.stderr
    return [json.loads(line) for line in made.stdout.splitlines() if line.startswith("[{")]


def test_jax_on_eight_devices_learns_what_tensorflow_does(digit_examples, word_examples, known_good, tmp_path):
    words = {**json.loads(known_good.read_text()), **WORDS}
    tasks = [("mnist", str(digit_examples), DIGITS, 2, None), ("crnn", str(word_examples), words, 1, 160)]
    ours, theirs = learned(tasks, tmp_path), learned(tasks, tmp_path, **EIGHT)
    assert len(ours) == len(theirs) == len(tasks)
    for system, epochs, others in zip(("mnist", "crnn"), ours, theirs, strict=True):
        for epoch, other in zip(epochs, others, strict=True):
            for name in ("loss", "val_loss"):
                assert other[name] == pytest.approx(epoch[name], rel=TOLERANCE), (system, epoch["epoch"], name)
            assert other["error"] == pytest.approx(epoch["error"], abs=0.05)


def test_what_jax_has_trained_is_evaluated_and_exported_with_tensorflow(digit_examples, tmp_path, stage):
    (tmp_path / "chosen.json").write_text(json.dumps({**DIGITS, "batch_size": 50}))
    made = stage(
        "trainer.train", "--system=mnist", f"--examples={digit_examples}", "--epochs=2",
        f"--hyperparameters={tmp_path}/chosen.json", f"--checkpoints={tmp_path}", f"--model={tmp_path}/model", **EIGHT,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert "a batch of 50 is divided among 5 of the 8 devices" in made.stdout
    assert json.loads((tmp_path / "model" / "training.json").read_text())["backend"] == "jax"
    given = ("--system=mnist", f"--examples={digit_examples}", f"--model={tmp_path}/model")
    made = stage("trainer.export", *given, f"--saved_model={tmp_path}/saved", f"--smoke={tmp_path}/smoke", **EIGHT)
    assert made.returncode == 0, made.stderr
    prices = {"machines": {}, "accelerators": {}, "date": "2026-01-02", "source": "https://example.test"}
    written = (f"--metrics={tmp_path}/m.json", f"--report={tmp_path}/r.html", f"--prices={json.dumps(prices)}")
    made = stage("trainer.evaluate", *given, *written, **EIGHT)
    assert made.returncode == 0, made.stderr
    assert json.loads((tmp_path / "m.json").read_text())["accuracy"] > 0.5
