"""The tuner's early stopping: epochs spent with it against without, at equal best score.

One search by localvertex's own tuning service, with real crnn trainings on a small sample of digits, each to its end.
A training is repeatable, so that its learning curve says what it would have done: the search is then replayed on these
curves in many orders of the trials, two at a time, since what is stopped depends much on what came before.
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from google.cloud.aiplatform_v1.types import HyperparameterTuningJob, JobState

from images.trainer import hyperparameters, ingest, rungs, sample
from localvertex.home import Home
from localvertex.names import parent
from localvertex.services.jobs import FINISHED, CustomJobs
from localvertex.services.tuning import TuningJobs
from localvertex.store import Store
from localvertex.tuning.stopping import Curve, median_rule
from localvertex.workloads.process import ProcessRunner
from localvertex.workloads.table import ImageTable
from tests.bench.measurement import Measurement

ROOT = Path(__file__).resolve().parents[2]
WORK = Path("build", "bench", "tuning")
TRIALS, SIDE_BY_SIDE, EPOCHS, EXAMPLES = 24, 2, 24, 400
ORDERS = 100
DIGITS, HEIGHT, WIDTH = 2500, 16, 64
MOST = 0.4
EQUAL = 1.05
"""Validation losses this close count as equal: another seed of the same training differs by more."""

TRAINING = [
    *("python", "-m", "images.trainer.trial", "--system=crnn", f"--examples={WORK / 'examples'}"),
    *(f"--epochs={EPOCHS}", "--seed=1", f"--limit={EXAMPLES}"),
]


def measurements() -> Iterator[Measurement]:
    """Runs the search, in about six minutes on two idle cores."""
    _prepare(ROOT / WORK)
    with TemporaryDirectory() as folder:
        yield from _compared(_curves(_search(Path(folder))))


def _compared(curves: Sequence[Curve]) -> Iterator[Measurement]:
    best, without = min(map(_best, curves)), _epochs(curves)
    for name, with_rungs in (("rungs and the median rule", True), ("the median rule alone", False)):
        searches = [_replayed(random.Random(seed).sample(curves, len(curves)), with_rungs) for seed in range(ORDERS)]
        spent = statistics.fmean(map(_epochs, searches))
        equal = sum(min(map(_best, search)) <= EQUAL * best for search in searches)
        detail = (
            f"{spent:.0f} and {without:.0f} epochs of {len(curves)} trials; equal best in {equal} of {ORDERS} orders"
        )
        bound = f"<= {MOST:g}, equal best" if with_rungs else "reported"
        passed = not with_rungs or (spent <= MOST * without and equal == ORDERS)
        yield Measurement(f"tuner: epochs with {name} / without", spent / without, bound, passed, detail)


def _replayed(order: Sequence[Curve], with_rungs: bool) -> list[Curve]:
    """What is seen of each curve when trials are stopped as those of a tuning job are."""
    waiting, running, ended = list(order), [], list[Curve]()
    notes: dict[int, list[float]] = {}
    while waiting or running:
        while waiting and len(running) < SIDE_BY_SIDE:
            running.append((waiting.pop(0), 1))
        still = []
        for curve, seen in running:
            epoch, behind = int(curve[seen - 1][0]), False
            if with_rungs and rungs.is_rung(epoch, EPOCHS):
                here = notes.setdefault(epoch, [])
                here.append(_best(curve[:seen]))
                behind = rungs.behind(here[-1], here)
            if behind or seen == len(curve) or median_rule(curve[:seen], ended):
                ended.append(curve[:seen])
            else:
                still.append((curve, seen + 1))
        running = still
    return ended


def _prepare(work: Path) -> None:
    """A small sample of digits at half the usual height and width, made once."""
    sample.sample("crnn", work / "digits", "digits", DIGITS)
    if not (work / "examples" / "schema.json").exists():
        ingest.ingest("crnn", work / "digits", work / "examples", {"height": HEIGHT, "width": WIDTH})


def _search(folder: Path) -> HyperparameterTuningJob:
    """A search with random parameters and no stopping, in a state folder of its own."""
    home = Home(folder).create()
    store = Store.at(home.database)
    custom = CustomJobs(store, home, ProcessRunner(home, ImageTable([], ROOT), {}))
    tuning = TuningJobs(store, home, custom)
    pool = {
        "container_spec": {"image_uri": "bench", "command": TRAINING},
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


def _curves(job: HyperparameterTuningJob) -> list[Curve]:
    return [[(float(each.step_count), _loss(each)) for each in trial.measurements] for trial in job.trials]


def _loss(measurement: Any) -> float:
    (loss,) = (metric.value for metric in measurement.metrics if metric.metric_id == "val_loss")
    return float(loss)


def _epochs(curves: Sequence[Curve]) -> float:
    return sum(curve[-1][0] for curve in curves)


def _best(curve: Curve) -> float:
    return min(loss for _, loss in curve)
