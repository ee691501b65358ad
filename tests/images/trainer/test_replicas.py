"""Protects training on several workers: it learns what one worker would, and a killed worker costs an epoch at most."""

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from images.executor import UserError
from images.trainer.replicas import of_environment
from images.trainer.train import ENDED_WITH_ANOTHER
from localvertex.home import Home
from localvertex.services.workers import free_ports
from tests.localvertex.jobs.support import Service, until
from tests.localvertex.processes import workloads

TOLERANCE = 2e-3
"""As the docstring of images/trainer/learning.py has it."""

TRAIN = ["python", "-m", "images.trainer.train"]
EPOCHS = 3
LEARNED = ("epoch", "loss", "val_loss", "val_error_rate", "learning_rate")
# Without dropout, whose draws differ, and without layer norms, which make much of rounding.
CHOSEN = {"architecture": "classic", "learning_rate": 5e-4, "batch_size": 64, "dropout": 0.0, "augmentation": 0.6}


@pytest.fixture(scope="module")
def digits(tmp_path_factory, digit_examples) -> Path:
    """Examples of a few hundred digits, and hyperparameters beside them."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "examples").symlink_to(digit_examples)
    (folder / "chosen.json").write_text(json.dumps(CHOSEN))
    return folder


def flags(digits: Path, out: Path) -> list[str]:
    return [
        "--system=mnist",
        f"--examples={digits}/examples",
        f"--hyperparameters={digits}/chosen.json",
        f"--epochs={EPOCHS}",
        "--seed=1",
        f"--checkpoints={out}/checkpoints",
        f"--model={out}/model",
    ]


def history(out: Path) -> list[dict[str, str]]:
    with (out / "model" / "history.csv").open(newline="") as file:
        return [{name: row[name] for name in LEARNED} for row in csv.DictReader(file)]


def begun(service: Service, digits: Path, out: Path):
    """A job of two workers, as the train component asks for it."""
    pool = {
        "container_spec": {"image_uri": "example.test/trainer:1", "command": [*TRAIN, *flags(digits, out)]},
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": 1,
    }
    restart = {"restart_job_on_worker_restart": True}
    return service.custom("", wait=False, worker_pool_specs=[pool, pool], scheduling=restart)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A job service."""
    with contextlib.closing(Service(Home(tmp_path_factory.mktemp("home")).create())) as service:
        yield service


@pytest.fixture(scope="module")
def together(tmp_path_factory, service, digits) -> Path:
    """What two workers leave that nothing befalls."""
    out = tmp_path_factory.mktemp("together")
    job = service.finished(begun(service, digits, out))
    assert job.state.name == "JOB_STATE_SUCCEEDED", job.error.message
    return out


def test_two_workers_learn_what_one_does(together, digits, tmp_path, stage):
    alone = stage("trainer.train", *flags(digits, tmp_path), "--streams=2")
    assert alone.returncode == 0, alone.stderr
    one, two = history(tmp_path), history(together)
    assert len(one) == len(two) == EPOCHS
    for each, other in zip(one, two, strict=True):
        for name in ("loss", "val_loss"):
            assert float(other[name]) == pytest.approx(float(each[name]), rel=TOLERANCE)
    assert float(two[-1]["loss"]) < 0.7 * float(two[0]["loss"])


def test_only_the_chief_writes(together):
    trained = json.loads((together / "model" / "training.json").read_text())
    assert (trained["workers"], trained["epochs"]) == (2, EPOCHS)
    assert trained["examples_per_second"] > 0
    assert len(list((together / "checkpoints").iterdir())) == 1
    assert not [path for path in together.rglob("*") if "partial" in path.name]


def test_a_killed_worker_is_started_again_and_nothing_else_changes(together, service, digits, tmp_path):
    job = begun(service, digits, tmp_path)
    until(lambda: "epoch 1/" in service.log(job))
    _, worker = workloads(service.home)[:2]
    worker.send_signal(signal.SIGKILL)
    job = service.finished(job)
    assert job.state.name == "JOB_STATE_SUCCEEDED", job.error.message
    assert "resuming after epoch" in service.log(job)
    assert history(tmp_path) == history(together)


def test_who_loses_another_ends_and_does_not_wait(digits, tmp_path):
    chief, worker = (f"127.0.0.1:{port}" for port in free_ports(2))
    cluster = {"chief": [chief], "worker": [worker]}

    def start(role: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "TF_CONFIG": json.dumps({"cluster": cluster, "task": {"type": role, "index": 0}})}
        given = [sys.executable, *TRAIN[1:], *flags(digits, tmp_path), "--epochs=200"]
        return subprocess.Popen(given, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    with start("worker") as worker, start("chief") as chief:
        try:
            next(line for line in chief.stdout if line.startswith("epoch 1/"))
            worker.kill()
            said, _ = chief.communicate(timeout=60)
        finally:
            worker.kill()
            chief.kill()
    assert chief.returncode == ENDED_WITH_ANOTHER
    assert said.splitlines()[-1].startswith("error: another replica is gone")
    assert not (tmp_path / "model").exists()


def test_a_machine_finds_its_place(monkeypatch):
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"], "ps": ["d:1"]}
    for role, place, index in (("chief", 0, 0), ("worker", 0, 1), ("worker", 1, 2)):
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": {"type": role, "index": place}}))
        assert of_environment() == (index, ("a:1", "b:1", "c:1"))
        assert of_environment().chief == (index == 0)
    monkeypatch.delenv("TF_CONFIG")
    assert of_environment().count == 1


@pytest.mark.parametrize("text", ["{", "[]", '{"cluster": {"chief": ["a:1"]}, "task": {"type": "worker", "index": 0}}'])
def test_a_config_that_makes_no_sense_is_the_callers_mistake(monkeypatch, text):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG="):
        of_environment()
