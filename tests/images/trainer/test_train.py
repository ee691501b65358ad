"""Protects training: what it writes, that a kill costs an epoch at most, one line for a user's mistake."""

import csv
import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

from images import executor
from images.trainer import train as stage_module
from images.trainer.checkpoints import Checkpoint


def flags(examples, hyperparameters, folder, epochs=1):
    return [
        "--system=crnn",
        f"--examples={examples}",
        f"--hyperparameters={hyperparameters}",
        f"--epochs={epochs}",
        "--seed=1",
        f"--checkpoints={folder}/checkpoints",
        f"--model={folder}/model",
    ]


def history(model):
    with (model / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_model_folder_holds_what_the_contract_says(trained):
    assert sorted(path.name for path in trained.model.iterdir()) == [
        "history.csv",
        "hyperparameters.json",
        "logs",
        "model.keras",
        "schema.json",
        "training.json",
    ]
    rows = history(trained.model)
    assert list(rows[0]) == ["epoch", "loss", "val_loss", "val_cer", "learning_rate", "seconds", "examples_per_second"]
    assert [int(row["epoch"]) for row in rows] == list(range(1, len(rows) + 1))
    assert float(rows[-1]["val_loss"]) < float(rows[0]["val_loss"])
    chosen = json.loads(trained.hyperparameters.read_text())
    assert json.loads((trained.model / "hyperparameters.json").read_text()) == chosen
    assert (trained.model / "schema.json").read_bytes() == (trained.examples / "schema.json").read_bytes()


def test_tensorboard_finds_its_scalars(trained):
    from tensorflow.core.util import event_pb2
    from tensorflow.data import TFRecordDataset

    tags = {}
    for record in TFRecordDataset([str(path) for path in (trained.model / "logs").iterdir()]):
        event = event_pb2.Event.FromString(record.numpy())
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            tags.setdefault(value.tag, []).append(event.step)
    steps = [int(row["epoch"]) for row in history(trained.model)]
    names = ("epoch_loss", "epoch_val_loss", "epoch_val_cer", "epoch_learning_rate")
    assert tags == dict.fromkeys(names, steps)


def test_the_best_epochs_weights_are_kept(trained, word_examples):
    from images.trainer import hyperparameters, learning

    chosen = stage_module.read_hyperparameters("crnn", str(trained.hyperparameters))
    assert isinstance(chosen, hyperparameters.of("crnn"))
    learner = learning.Learner("crnn", word_examples, chosen, epochs=1, seed=1)
    learner.network.load_weights(trained.model / "model.keras")
    rows = history(trained.model)
    best = min(rows, key=lambda row: (float(row["val_cer"]), float(row["val_loss"])))
    val_loss, error = learner.validate()
    assert error == pytest.approx(float(best["val_cer"]), rel=1e-4)
    assert val_loss == pytest.approx(float(best["val_loss"]), rel=1e-3)


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path, digit_examples, stage):
    chosen = {"architecture": "classic", "learning_rate": 5e-4, "batch_size": 64, "dropout": 0.2, "augmentation": 0.6}
    (tmp_path / "chosen.json").write_text(json.dumps(chosen))

    def given(name):
        changed = ["--system=mnist", f"--hyperparameters={tmp_path}/chosen.json"]
        return [*flags(digit_examples, "", tmp_path / name, epochs=4), *changed]

    whole = stage("trainer.train", *given("whole"))
    assert whole.returncode == 0, whole.stderr
    command = [sys.executable, "-m", "images.trainer.train", *given("killed")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model").exists()

    resumed = stage("trainer.train", *given("killed"))
    assert resumed.returncode == 0, resumed.stderr
    # The kill may come while the third epoch's checkpoint is being written, never before the second's was.
    assert re.match(r"resuming after epoch [23]/", resumed.stdout)
    columns = ("epoch", "loss", "val_loss", "val_error_rate", "learning_rate")
    one, other = (
        [[row[name] for name in columns] for row in history(tmp_path / n / "model")] for n in ("whole", "killed")
    )
    assert one == other and len(one) == 4


def test_a_checkpoint_of_other_settings_is_neither_used_nor_overwritten(tmp_path):
    arrays = {"state": [np.arange(3.0), np.array(7)], "best": []}
    Checkpoint(tmp_path, {"seed": 1}).save({**arrays, "best": [np.ones((2, 2))]}, [{"epoch": 1}])
    assert Checkpoint(tmp_path, {"seed": 2}).load() is None
    Checkpoint(tmp_path, {"seed": 2}).save(arrays, [])
    found, progress = Checkpoint(tmp_path, {"seed": 1}).load()
    assert progress == [{"epoch": 1}]
    np.testing.assert_array_equal(found["state"][0], np.arange(3.0))
    assert found["state"][1] == 7
    assert found["best"][0].shape == (2, 2)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not a zip after all"])
def test_a_damaged_checkpoint_is_not_used(tmp_path, content):
    Checkpoint(tmp_path, {}).save({"state": []}, [])
    (file,) = tmp_path.iterdir()
    file.write_bytes(content)
    assert Checkpoint(tmp_path, {}).load() is None


def test_training_stops_when_neither_the_error_nor_the_loss_falls():
    from images.trainer.learning import Epoch

    def stalled(*errors):
        return stage_module._stalled([Epoch(i, 1.0, 1.0, error, 0.1, 1.0, 1.0) for i, error in enumerate(errors)])

    still = [0.5] * stage_module.PATIENCE
    assert not stalled(*still)
    assert stalled(0.5, *still)
    assert not stalled(0.6, *still)
    assert not stalled(0.5, *still[:-1], 0.4)
    falling = [Epoch(i, 1.0, 1.0 / (i + 1), 1.0, 0.1, 1.0, 1.0) for i in range(3 * stage_module.PATIENCE)]
    assert not stage_module._stalled(falling)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("--system=cnn", "error: --system=cnn: no such system"),
        ("--examples=/absent", "error: /absent: no such file or folder"),
        ("--hyperparameters=/absent.json", "cannot be read (No such file or directory)"),
        ("--epochs=0", "error: --epochs=0: give at least 1"),
        ("--executor_input={", "error: --executor_input: not a KFP ExecutorInput"),
    ],
)
def test_a_users_mistake_is_one_line(tmp_path, trained, stage, change, message):
    given = [*flags(trained.examples, trained.hyperparameters, tmp_path), change]
    made = stage("trainer.train", *given)
    assert made.returncode == 2
    assert message in made.stderr
    assert len(made.stderr.splitlines()) == 1
    assert not (tmp_path / "model").exists()


def test_kfp_learns_the_digest(tmp_path, trained, capsys):
    artifact = {"name": "model", "uri": "gs://bucket/model", "metadata": {}}
    outputs = {"artifacts": {"model": {"artifacts": [artifact]}}, "outputFile": f"{tmp_path}/out.json"}
    given = flags(trained.examples, trained.hyperparameters, tmp_path, epochs=1)
    stage_module.main([*given, f"--executor_input={json.dumps({'outputs': outputs})}"])
    written = json.loads((tmp_path / "out.json").read_text())["artifacts"]["model"]["artifacts"][0]["metadata"]
    assert written["digest"] == executor.digest(tmp_path / "model")
    assert written["epochs"] == written["best_epoch"] == 1
    assert capsys.readouterr().out.startswith("epoch 1/1  loss ")
