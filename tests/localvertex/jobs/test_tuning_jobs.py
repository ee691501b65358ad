"""Protects tuning jobs: trials are told, followed, stopped and ranked, and survive a kill of the server."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    CancelHyperparameterTuningJobRequest,
    CustomJob,
    DeleteHyperparameterTuningJobRequest,
    HyperparameterTuningJob,
    JobState,
    Trial,
)

from localvertex.services.tuning import flag_value, read_measurements
from tests.localvertex.jobs.support import Service, pool, until
from tests.localvertex.processes import workloads

X = {"parameter_id": "x", "discrete_value_spec": {"values": [1, 2, 3, 4]}}
GRID = {"algorithm": "GRID_SEARCH"}

# A trial reports x + 1 / epoch, step by step.
TRAIN = """
import json, os, sys, time
x = float(dict(a[2:].split("=") for a in sys.argv[1:])["x"])
for epoch in range(1, int(os.environ.get("EPOCHS", "3")) + 1):
    with open(os.environ["CLOUD_ML_HP_METRIC_FILE"], "a") as file:
        print(json.dumps({"timestamp": time.time(), "trial": os.environ["CLOUD_ML_TRIAL_ID"],
                          "loss": str(x + 1 / epoch), "other": "7", "global_step": str(epoch)}), file=file)
"""


def test_every_trial_is_run_measured_and_ranked(service: Service) -> None:
    job = service.tune(TRAIN, [X], study=GRID)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    assert [trial.id for trial in job.trials] == ["1", "2", "3", "4"]
    for trial in job.trials:
        (x,) = (parameter.value for parameter in trial.parameters)
        assert trial.state == Trial.State.SUCCEEDED and trial.start_time <= trial.end_time
        assert [measurement.step_count for measurement in trial.measurements] == [1, 2, 3]
        final = {metric.metric_id: metric.value for metric in trial.final_measurement.metrics}
        assert final == {"loss": pytest.approx(x + 1 / 3), "other": 7.0}
        assert service.store.get(CustomJob, trial.custom_job).display_name == f"search-trial-{trial.id}"


def test_the_best_or_the_last_measurement_is_final(service: Service) -> None:
    worsening = TRAIN.replace("x + 1 / epoch", "x + epoch")
    best = service.tune(worsening, [X], study={"measurement_selection_type": "BEST_MEASUREMENT"}, max_trial_count=2)
    last = service.tune(worsening, [X], max_trial_count=2)
    assert [trial.final_measurement.step_count for trial in [*best.trials, *last.trials]] == [1, 1, 3, 3]


def test_no_more_trials_than_allowed_run_side_by_side(service: Service, tmp_path: Path) -> None:
    counting = (
        "import os, pathlib, time; here = pathlib.Path(os.environ['MARKS'])\n"
        "mark = here / os.environ['CLOUD_ML_TRIAL_ID']\n"
        "mark.touch(); time.sleep(0.5); print(len(list(here.iterdir()))); mark.unlink()\n" + TRAIN
    )
    marks = tmp_path / "marks"
    marks.mkdir()
    spec = {"worker_pool_specs": [pool(counting, env={"MARKS": str(marks)})]}
    job = service.tune("", [X], study=GRID, trial_job_spec=spec)
    seen = [int(_log(service, trial)) for trial in job.trials]
    assert max(seen) == 2, seen


@pytest.mark.parametrize(
    ("rule", "good"), [("median_automated_stopping_spec", [1, 2]), ("decay_curve_stopping_spec", [1, 2, 3, 4])]
)
def test_hopeless_trials_are_stopped_by_a_signal_they_can_answer(
    service: Service, rule: str, good: list[float]
) -> None:
    if rule == "decay_curve_stopping_spec":
        # The rule imports it when it is first asked, which can take longer than a trial of this test.
        importlib.import_module("sklearn.gaussian_process")
    slow = TRAIN.replace(
        "import json", "import signal; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\nimport json"
    )
    slow = slow + "    time.sleep(0.01 if x < 5 else 0.7)\n"
    job = service.tune(
        slow,
        [{"parameter_id": "x", "discrete_value_spec": {"values": [*good, 8, 9]}}],
        study={**GRID, rule: {}},
        max_trial_count=len(good) + 2,
        parallel_trial_count=1,
        trial_job_spec={"worker_pool_specs": [pool(slow, env={"EPOCHS": "30"})]},
    )
    assert {trial.state for trial in job.trials} == {Trial.State.SUCCEEDED}
    assert len(job.trials[0].measurements) == 30
    assert all(len(trial.measurements) < 15 and trial.final_measurement.metrics for trial in job.trials[len(good) :])


def test_a_grid_that_is_exhausted_ends_the_search(service: Service) -> None:
    job = service.tune(TRAIN, [X], study=GRID, max_trial_count=9)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    assert [trial.parameters[0].value for trial in job.trials] == [1, 2, 3, 4]


@pytest.mark.parametrize(("second", "state"), [("other", "SUCCEEDED"), ("absent", "INFEASIBLE")])
def test_several_metrics_must_all_be_reported(service: Service, second: str, state: str) -> None:
    metrics = [{"metric_id": "loss", "goal": "MINIMIZE"}, {"metric_id": second, "goal": "MAXIMIZE"}]
    job = service.tune(TRAIN, [X], study={"metrics": metrics}, max_trial_count=3)
    assert {trial.state.name for trial in job.trials} == {state}
    if state == "INFEASIBLE":
        assert "no value of 'loss' and 'absent'" in job.error.message


def test_failed_trials_are_infeasible_and_the_others_count(service: Service) -> None:
    job = service.tune(TRAIN + "assert x != 2, 'no such x'", [X], study=GRID)
    assert job.state == JobState.JOB_STATE_SUCCEEDED
    assert [trial.state for trial in job.trials].count(Trial.State.INFEASIBLE) == 1
    assert "no such x" in job.trials[1].infeasible_reason


def test_a_trial_without_the_metric_is_infeasible(service: Service) -> None:
    job = service.tune(TRAIN.replace('"loss"', '"los"'), [X], study=GRID)
    assert job.state == JobState.JOB_STATE_FAILED
    assert "reported no value of 'loss'" in job.trials[0].infeasible_reason


@pytest.mark.parametrize(("limit", "trials"), [(0, 3), (2, 2)])
def test_failed_trials_fail_the_job(service: Service, limit: int, trials: int) -> None:
    job = service.tune(
        "raise SystemExit('broken')", [X], study=GRID, max_failed_trial_count=limit, parallel_trial_count=1
    )
    assert job.state == JobState.JOB_STATE_FAILED and len(job.trials) == trials
    assert f"{trials} trials failed" in job.error.message and "broken" in job.error.message


def test_cancelling_ends_the_trials(service: Service) -> None:
    job = service.tune("import time; time.sleep(3600)", [X], wait=False)
    until(lambda: len(workloads(service.home)) == 2)
    service.jobs.cancel_hyperparameter_tuning_job(CancelHyperparameterTuningJobRequest(name=job.name))
    ended = service.tuned(job)
    assert ended.state == JobState.JOB_STATE_CANCELLED
    assert not workloads(service.home)
    assert {trial.state for trial in ended.trials} == {Trial.State.INFEASIBLE}


def test_a_search_goes_on_after_a_restart_of_the_server(restarts: Callable[[], Service], tmp_path: Path) -> None:
    """Finished trials are kept, the running one is begun anew, and the search goes on as if undisturbed."""
    blocked = TRAIN + "\nif x == 3 and not os.path.exists(os.environ['GATE']): time.sleep(3600)\n"
    spec = {"worker_pool_specs": [pool(blocked, env={"GATE": str(tmp_path / "gate")})]}
    before = restarts()
    job = before.tune("", [X], wait=False, study=GRID, parallel_trial_count=1, trial_job_spec=spec)
    until(lambda: len(before.get_tuning(job).trials) == 3 and before.get_tuning(job).trials[2].measurements)
    before.jobs.close()
    kept = before.get_tuning(job)
    (tmp_path / "gate").touch()
    after = restarts()
    after.jobs.resume()
    ended = after.tuned(job)
    assert ended.state == JobState.JOB_STATE_SUCCEEDED
    assert list(ended.trials[:2]) == list(kept.trials[:2])
    assert ended.trials[2].custom_job == kept.trials[2].custom_job
    assert [len(trial.measurements) for trial in ended.trials] == [3, 3, 3, 3]


def test_a_trial_stored_but_never_begun_is_begun_on_resume(restarts: Callable[[], Service]) -> None:
    before = restarts()
    job = before.tune("import time; time.sleep(3600)", [X], wait=False, study=GRID, max_trial_count=1,
                      parallel_trial_count=1)  # fmt: skip
    until(lambda: before.get_tuning(job).trials and before.store.find(CustomJob, _first(before, job)))
    before.jobs.close()
    before.store.delete(CustomJob, _first(before, job))
    after = restarts()
    after.jobs.resume()
    until(lambda: after.store.find(CustomJob, _first(after, job)))


def test_a_finished_search_can_be_deleted(service: Service) -> None:
    job = service.tune(TRAIN, [X], max_trial_count=1, parallel_trial_count=1)
    service.jobs.delete_hyperparameter_tuning_job(DeleteHyperparameterTuningJobRequest(name=job.name))
    until(lambda: service.store.find(HyperparameterTuningJob, job.name) is None)
    until(lambda: not list((service.home.path / "trials").glob("*")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_trial_count": 0}, "max_trial_count must be at least 1"),
        ({"parallel_trial_count": 5}, "parallel_trial_count must be from 1"),
        ({"display_name": ""}, "display_name is required"),
        ({"trial_job_spec": {}}, "trial_job_spec.worker_pool_specs must not be empty"),
    ],
)
def test_a_job_that_cannot_run_is_refused(service: Service, change: dict[str, object], message: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=message):
        service.tune("", [X], **change)


def test_the_metric_file_is_read_as_it_grows(tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    lines = [
        {"timestamp": 105.5, "loss": "3", "global_step": "1", "checkpoint_path": ""},
        {"timestamp": 106.0, "cer": "0.5", "global_step": "1"},
        {"timestamp": 110.0, "loss": "nan", "global_step": "2"},
        {"timestamp": 111.0, "loss": 2, "global_step": 3},
    ]
    file.write_text("\n".join(map(json.dumps, lines)) + '\nnot json\n[]\n{"loss": "1", "glob')
    found = read_measurements(file, started=100.0)
    assert list(found) == [1, 3]
    assert {metric.metric_id: metric.value for metric in found[1].metrics} == {"loss": 3.0, "cer": 0.5}
    assert found[3].elapsed_duration.total_seconds() == 11.0


def test_lines_without_a_step_are_numbered(tmp_path: Path) -> None:
    file = tmp_path / "metrics"
    file.write_text('{"loss": 3}\n{"loss": 2}\n')
    assert [found.metrics[0].value for found in read_measurements(file, 0.0).values()] == [3.0, 2.0]


@pytest.mark.parametrize(("value", "text"), [(64.0, "64"), (3, "3"), (0.001, "0.001"), ("tcn", "tcn"), (1e-7, "1e-07")])
def test_whole_numbers_are_passed_without_a_decimal_point(value: float | str, text: str) -> None:
    assert flag_value(value) == text


def _log(service: Service, trial: Trial) -> str:
    return (service.home.logs / trial.custom_job.rsplit("/", 1)[1] / "workerpool0-0.log").read_text()


def _first(service: Service, job: HyperparameterTuningJob) -> str:
    return str(service.get_tuning(job).trials[0].custom_job)
