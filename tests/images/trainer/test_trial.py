"""Protects a trial: a line an epoch in the tuning job's file, a quiet end on SIGTERM, no misspelt flag."""

import json
import os
import signal
import subprocess
import sys

import pytest

from images.trainer import hyperparameters as spaces
from images.trainer import rungs
from images.trainer.trial import trial

WORDS = {
    "architecture": "bilstm",
    "learning_rate": "0.004",
    "batch_size": "16.0",
    "dropout": "0.1",
    "width": "64",
    "activation": "silu",
    "lstm_units": "48",
}
# What is quick to compile.
FLOWERS = {
    "hidden_units": "16",
    "learning_rate": "0.02",
    "batch_size": "16.0",
    "dropout": "0.1",
    "activation": "tanh",
}


def flags(system, examples, epochs, values):
    return [
        f"--system={system}",
        f"--examples={examples}",
        f"--epochs={epochs}",
        "--seed=1",
        "--limit=80",
        *(f"--{name}={value}" for name, value in values.items() if value is not None),
    ]


def reports(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_each_epoch_from_the_third_on_is_reported(tmp_path, iris_examples, stage):
    file = tmp_path / "hypertune" / "output.metric"
    environment = {"CLOUD_ML_HP_METRIC_FILE": str(file), "CLOUD_ML_TRIAL_ID": "7"}
    made = stage("trainer.trial", *flags("iris", iris_examples, 4, FLOWERS), **environment)
    assert made.returncode == 0, made.stderr
    first, second = reports(file)
    assert set(first) == {"timestamp", "trial", "val_loss", "error_rate", "global_step", "checkpoint_path"}
    assert (first["trial"], first["global_step"], second["global_step"]) == ("7", "3", "4")
    assert 0 < float(second["val_loss"]) < float(first["val_loss"])
    assert 0 <= float(second["error_rate"]) <= 1
    assert made.stdout.startswith("epoch 1/4  val_loss ")


def test_a_trial_of_one_epoch_reports_it(tmp_path, iris_examples, monkeypatch):
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", f"{tmp_path}/output.metric")
    trial("iris", str(iris_examples), spaces.parse(spaces.of("iris"), FLOWERS), epochs=1, seed=1)
    assert [line["global_step"] for line in reports(tmp_path / "output.metric")] == ["1"]


def test_a_trial_that_is_behind_ends_there(tmp_path, iris_examples, monkeypatch, capsys):
    monkeypatch.setenv("CLOUD_ML_HP_METRIC_FILE", f"{tmp_path}/output.metric")
    chosen = spaces.parse(spaces.of("iris"), FLOWERS)
    rungs.compare(tmp_path / "rungs", "an earlier one", 3, 1e-9)
    trial("iris", str(iris_examples), chosen, epochs=5, seed=1, shared=f"{tmp_path}/rungs")
    assert "place 2 of 2 after epoch 3: ending here" in capsys.readouterr().out
    assert [line["global_step"] for line in reports(tmp_path / "output.metric")] == ["3"]


def test_stopping_early_is_quiet_and_keeps_what_was_reported(tmp_path, iris_examples):
    file = tmp_path / "output.metric"
    with subprocess.Popen(
        [sys.executable, "-m", "images.trainer.trial", *flags("iris", iris_examples, 5000, FLOWERS)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CLOUD_ML_HP_METRIC_FILE": str(file)},
    ) as process:
        for epoch in range(1, 4):
            assert process.stdout.readline().startswith(f"epoch {epoch}/5000")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate()
    assert process.returncode == 0
    assert "Traceback" not in errors
    assert reports(file)[0]["global_step"] == "3"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learnign_rate": "0.1"}, "learnign_rate: no such name; did you mean learning_rate?"),
        ({"dropout": "2"}, "hyperparameter dropout=2: must be a number from 0 to 0.4"),
        ({"width": None}, "hyperparameter width: missing"),
        ({"kernel_size": "3"}, "kernel_size: only exists when architecture is tcn"),
    ],
)
def test_a_mistaken_argument_costs_no_training(tmp_path, stage, changes, message):
    made = stage("trainer.trial", *flags("crnn", tmp_path, 1, {**WORDS, **changes}))
    assert made.returncode == 2
    assert message in made.stderr
    assert len(made.stderr.splitlines()) == 1


def test_a_stray_argument_is_named(tmp_path, stage):
    made = stage("trainer.trial", *flags("crnn", tmp_path, 1, WORDS), "--dropout", "0.2")
    assert (made.returncode, len(made.stderr.splitlines())) == (2, 1)
    assert "--dropout: not understood; give each hyperparameter as --name=value" in made.stderr
