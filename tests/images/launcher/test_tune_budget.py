"""Protects the budget of tuning: a search that would never end is ended, and what it found so far is kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# The first trial ends after an epoch. The second is better, and would go on for ever.
TRIAL = """
import json, os, time
best = os.environ["CLOUD_ML_TRIAL_ID"] != "1"
with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "a") as file:
    file.write(json.dumps({"global_step": 1, "val_loss": 0.5 if best else 1.0}) + "\\n")
while best:
    time.sleep(1)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What a process needs for a localvertex in which the program above is what a trial's image runs."""
    folder = tmp_path_factory.mktemp("localvertex")
    program = folder / "code" / "images" / "trainer" / "trial.py"
    program.parent.mkdir(parents=True)
    program.write_text(TRIAL)
    (folder / "localvertex.toml").write_text(
        f'[[image]]\npattern = "*/trainer:*"\npython = "{sys.executable}"\nworkdir = "code"\n'
    )
    variables = {**os.environ, "LOCALVERTEX_HOME": str(folder / "state")}

    def localvertex(*arguments: str) -> str:
        command = [sys.executable, "-m", "localvertex", *arguments]
        return subprocess.run(command, env=variables, check=True, capture_output=True, text=True).stdout

    localvertex("start")
    yield variables | json.loads(localvertex("env", "--json"))
    localvertex("stop")


def tune(folder: Path, environment: dict[str, str], budget: float) -> subprocess.CompletedProcess[str]:
    """A launcher that knows of no earlier one but by the job's name."""
    outputs = {name: folder / name for name in ("hyperparameters", "trials", "report", "metrics", "gcp_resources")}
    flags = {
        "project": "localvertex",
        "location": "us-central1",
        "job_name": "search",
        "system": "iris",
        "examples": "/gcs/bucket/examples",
        "trial_image": "registry/trainer:iris-trial-0",
        "trial_epochs": 9,
        "trial_examples": 100,
        "max_trials": 3,
        "parallel_trials": 1,
        "tune_budget": budget,
        **outputs,
    }
    command = [sys.executable, "-m", "images.launcher.tune", *(f"--{name}={value}" for name, value in flags.items())]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_the_best_so_far_is_kept_when_the_budget_is_spent(tmp_path: Path, environment: dict[str, str]) -> None:
    (tmp_path / "first").mkdir()
    done = tune(tmp_path / "first", environment, budget=8 / 3600)
    assert done.returncode == 0, done.stderr
    assert "the budget of 0.00222222 device-hours is spent" in done.stdout
    found = metrics(tmp_path / "first")
    assert (found["best_val_loss"], found["trials"], found["trials_stopped_early"]) == (0.5, 2, 2)
    assert found["device_hours"] >= round(8 / 3600, 4)
    assert "best: trial 2" in done.stdout
    # A launcher that comes after, its forerunner killed before it wrote anything, takes the same job up.
    (tmp_path / "second").mkdir()
    again = tune(tmp_path / "second", environment, budget=8 / 3600)
    assert again.returncode == 0, again.stderr
    assert done.stdout.splitlines()[0] == again.stdout.splitlines()[0]
    assert metrics(tmp_path / "second")["best_val_loss"] == 1.0


def metrics(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / "metrics").read_text())
    return loaded
