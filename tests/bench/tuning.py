"""The tuner's early stopping: epochs spent with it against without, at equal best score.

One search three times, by localvertex's own tuning service with two trials side by side: first with real crnn
trainings on a small sample of digits, each to its end; then with either stopping rule. A training is repeatable, so
the work need not be done again: those trials report the first search's learning curves, epoch by epoch, until stopped.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from google.cloud.aiplatform_v1.types import HyperparameterTuningJob, JobState

from images.trainer import hyperparameters, ingest, sample
from localvertex.home import Home
from localvertex.names import parent
from localvertex.services.jobs import FINISHED, CustomJobs
from localvertex.services.tuning import TuningJobs
from localvertex.store import Store
from localvertex.workloads.process import ProcessRunner
from localvertex.workloads.table import ImageTable
from tests.bench.measurement import Measurement

ROOT = Path(__file__).resolve().parents[2]
WORK = Path("build", "bench", "tuning")
TRIALS, SIDE_BY_SIDE, EPOCHS, EXAMPLES = 24, 2, 24, 400
DIGITS, HEIGHT, WIDTH = 2500, 16, 64
MOST = 0.4
EQUAL = 1.05
"""Validation losses this close count as equal: another seed of the same training differs by more."""

TRAINING = [
    *("python", "-m", "images.trainer.trial", "--system=crnn", f"--examples={WORK / 'examples'}"),
    *(f"--epochs={EPOCHS}", "--seed=1", f"--limit={EXAMPLES}"),
]
REPLAY = """
import os, sys, time
from pathlib import Path
trial = os.environ["CLOUD_ML_TRIAL_ID"]
for line in Path(sys.argv[1], trial + ".jsonl").read_text().splitlines():
    with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "a") as file:
        print(line, file=file)
    time.sleep(0.6)
"""


def measurements() -> Iterator[Measurement]:
    """Runs the searches, in about six minutes on two idle cores."""
    _prepare(ROOT / WORK)
    with TemporaryDirectory() as folder:
        whole = _search(Path(folder, "whole"), TRAINING, {})
        curves = Path(folder, "curves")
        _write_curves(whole, curves)
        replay = ["python", "-c", REPLAY, str(curves)]
        decay = _search(Path(folder, "decay"), replay, {"decay_curve_stopping_spec": {}})
        median = _search(Path(folder, "median"), replay, {"median_automated_stopping_spec": {}})
    ratio, equal = _epochs(decay) / _epochs(whole), _best(decay) <= EQUAL * _best(whole)
    bound = f"<= {MOST:g}, equal best"
    yield Measurement(_name("decay curve"), ratio, bound, ratio <= MOST and equal, _detail(decay, whole))
    ratio = _epochs(median) / _epochs(whole)
    yield Measurement(_name("median"), ratio, "reported", True, _detail(median, whole))


def _prepare(work: Path) -> None:
    """A small sample of digits at half the usual height and width, made once."""
    sample.sample("crnn", work / "digits", "digits", DIGITS)
    if not (work / "examples" / "schema.json").exists():
        ingest.ingest("crnn", work / "digits", work / "examples", {"height": HEIGHT, "width": WIDTH})


def _search(folder: Path, command: list[str], stopping: dict[str, Any]) -> HyperparameterTuningJob:
    """A search with random parameters, run to its end in a state folder of its own."""
    home = Home(folder).create()
    store = Store.at(home.database)
    custom = CustomJobs(store, home, ProcessRunner(home, ImageTable([], ROOT), {}))
    tuning = TuningJobs(store, home, custom)
    pool = {
        "container_spec": {"image_uri": "bench", "command": command},
        "machine_spec": {"machine_type": "n1-standard-4"},
        "replica_count": 1,
    }
    job = HyperparameterTuningJob(
        display_name="bench",
        max_trial_count=TRIALS,
        parallel_trial_count=SIDE_BY_SIDE,
        study_spec={
            "metrics": [{"metric_id": "val_loss", "goal": "MINIMIZE"}],
            "parameters": hyperparameters.parameter_specs(hyperparameters.of("crnn")),
            "algorithm": "RANDOM_SEARCH",
            "measurement_selection_type": "BEST_MEASUREMENT",
            **stopping,
        },
        trial_job_spec={"worker_pool_specs": [pool]},
    )
    job = tuning.create(parent(home.project_number, home.location), job)
    try:
        while job.state not in FINISHED:
            time.sleep(0.2)
            job = store.get(HyperparameterTuningJob, job.name)
    finally:
        tuning.close()
        custom.close()
        store.close()
    if job.state != JobState.JOB_STATE_SUCCEEDED:
        raise RuntimeError(job.error.message)
    return job


def _write_curves(job: HyperparameterTuningJob, folder: Path) -> None:
    folder.mkdir()
    for trial in job.trials:
        lines = [
            json.dumps({"val_loss": str(_loss(measurement)), "global_step": str(measurement.step_count)})
            for measurement in trial.measurements
        ]
        (folder / f"{trial.id}.jsonl").write_text("\n".join(lines))


def _loss(measurement: Any) -> float:
    (loss,) = (metric.value for metric in measurement.metrics if metric.metric_id == "val_loss")
    return float(loss)


def _epochs(job: HyperparameterTuningJob) -> int:
    return sum(len(trial.measurements) for trial in job.trials)


def _best(job: HyperparameterTuningJob) -> float:
    return min(_loss(trial.final_measurement) for trial in job.trials if trial.measurements)


def _name(rule: str) -> str:
    return f"tuner: epochs with {rule} stopping / without"


def _detail(stopped: HyperparameterTuningJob, whole: HyperparameterTuningJob) -> str:
    return (
        f"{_epochs(stopped)} and {_epochs(whole)} epochs of {TRIALS} trials; "
        f"best val_loss {_best(stopped):.3f} and {_best(whole):.3f}"
    )
