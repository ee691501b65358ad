"""Protects the tuning stage: the job it asks for, the trial it chooses, what it writes of the search."""

import csv
import datetime
import json
import math
import signal
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from google.cloud import aiplatform_v1
from google.protobuf import struct_pb2
from hypothesis import given
from hypothesis import strategies as st

from images.executor import UserError
from images.launcher import api, trials, tune
from images.launcher.trials import Trial
from images.trainer import hyperparameters

SEARCH = tune.Search(
    system="crnn",
    examples="/gcs/bucket/examples",
    trial_image="registry/trainer:crnn-trial-0",
    trial_epochs=4,
    trial_examples=1000,
    max_trials=6,
    parallel_trials=8,
)


def trial(number: int, losses: list[float], state: str = "SUCCEEDED", **parameters: Any) -> Trial:
    curve = {step: {"val_loss": loss, "cer": loss / 10} for step, loss in enumerate(losses, start=1)}
    return Trial(str(number), state, parameters, curve, seconds=len(losses))


def test_the_service_takes_the_job() -> None:
    sent = aiplatform_v1.HyperparameterTuningJob(tune.job(SEARCH, "search", "/gcs/bucket/rungs"))
    space = hyperparameters.parameter_specs(hyperparameters.of("crnn"))
    assert [spec.parameter_id for spec in sent.study_spec.parameters] == [spec["parameter_id"] for spec in space]
    assert sent.study_spec.metrics[0].metric_id == "val_loss"
    assert sent.study_spec.metrics[0].goal.name == "MINIMIZE"
    assert "median_automated_stopping_spec" in sent.study_spec
    assert sent.study_spec.measurement_selection_type.name == "BEST_MEASUREMENT"
    assert sent.parallel_trial_count == 6
    pool = sent.trial_job_spec.worker_pool_specs[0]
    assert pool.container_spec.args == [
        "--system=crnn", "--examples=/gcs/bucket/examples", "--epochs=4", "--limit=1000", "--seed=1",
        "--shared=/gcs/bucket/rungs",
    ]  # fmt: skip
    assert not pool.machine_spec.accelerator_count


def test_what_is_given_is_not_searched() -> None:
    search = tune.dataclasses.replace(SEARCH, system="detection", given="flip=0.25 batch_size=8 learning_rate=")
    sent = aiplatform_v1.HyperparameterTuningJob(tune.job(search, "search", "/gcs/bucket/rungs"))
    assert sent.max_trial_count == SEARCH.max_trials
    assert [spec.parameter_id for spec in sent.study_spec.parameters] == ["learning_rate"]
    assert sent.study_spec.parameters[0].double_value_spec.max_value > 1e-3
    assert sent.trial_job_spec.worker_pool_specs[0].container_spec.args[-2:] == ["--flip=0.25", "--batch_size=8"]
    search = tune.dataclasses.replace(search, given="learning_rate=0.002")
    sent = aiplatform_v1.HyperparameterTuningJob(tune.job(search, "search", "/gcs/bucket/rungs"))
    assert (sent.max_trial_count, sent.parallel_trial_count) == (1, 1), "there is nothing to search"
    assert list(sent.study_spec.parameters[0].discrete_value_spec.values) == [0.002]
    with pytest.raises(UserError, match="hyperparameter flip=2: must be a number from 0 to 1"):
        tune.dataclasses.replace(search, given="flip=2")


def test_an_accelerator_is_asked_for() -> None:
    search = tune.dataclasses.replace(SEARCH, accelerator_type="NVIDIA_TESLA_T4", accelerator_count=1)
    machine = aiplatform_v1.HyperparameterTuningJob(
        tune.job(search, "s", "/gcs/bucket/rungs")
    ).trial_job_spec.worker_pool_specs[0]
    assert machine.machine_spec.accelerator_type.name == "NVIDIA_TESLA_T4"


@pytest.mark.parametrize("name", ["trial_epochs", "trial_examples", "max_trials", "parallel_trials"])
def test_a_count_below_one_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"--{name}=0: give at least 1"):
        tune.dataclasses.replace(SEARCH, **{name: 0})


def test_a_trial_is_read_as_the_service_tells_it() -> None:
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    measured = [
        {"step_count": step, "metrics": [{"metric_id": "val_loss", "value": loss}]}
        for step, loss in ((2, 1.5), (1, 3.0))
    ]
    told = aiplatform_v1.Trial(
        id="7",
        state="SUCCEEDED",
        parameters=[{"parameter_id": "batch_size", "value": struct_pb2.Value(number_value=32)}],
        measurements=measured,
        start_time=start,
        end_time=start + datetime.timedelta(seconds=9),
    )
    assert Trial.of(told) == Trial(
        "7", "SUCCEEDED", {"batch_size": 32}, {1: {"val_loss": 3.0}, 2: {"val_loss": 1.5}}, 9.0
    )


def test_without_measurements_the_final_one_counts() -> None:
    final = {"step_count": 3, "metrics": [{"metric_id": "val_loss", "value": 2.0}]}
    found = Trial.of(aiplatform_v1.Trial(id="1", state="SUCCEEDED", final_measurement=final))
    assert (found.epochs, found.best) == (3, {"val_loss": 2.0})


def test_a_trial_that_has_not_started_is_read() -> None:
    found = Trial.of(aiplatform_v1.Trial(id="1", state="REQUESTED"))
    assert (found.epochs, found.best, found.seconds, found.usable) == (0, {}, 0.0, False)


def test_the_best_epoch_of_the_best_trial_wins() -> None:
    found = [
        trial(1, [3.0, 2.0, 2.5]),
        trial(2, [3.0, 0.1], state="INFEASIBLE"),
        trial(3, [1.0, math.nan]),
        trial(4, [math.nan]),
        trial(5, []),
    ]
    best = trials.winner(found)
    assert best is not None
    assert (best.id, best.best["val_loss"]) == ("3", 1.0)


def test_no_usable_trial() -> None:
    assert trials.winner([trial(1, []), trial(2, [1.0], state="INFEASIBLE")]) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["SUCCEEDED", "INFEASIBLE", "ACTIVE"])), max_size=8))
def test_epochs_spent_and_saved_add_up(shape: list[tuple[int, str]]) -> None:
    found = [trial(number, [1.0] * epochs, state) for number, (epochs, state) in enumerate(shape)]
    cost = trials.cost(found, epochs=5)
    finished = [entry for entry in found if entry.state == "SUCCEEDED"]
    others = sum(entry.epochs for entry in found if entry.state != "SUCCEEDED")
    assert cost["epochs_spent"] + cost["epochs_saved"] == 5 * len(finished) + others
    assert cost["trials"] == len(found)


def test_the_table_has_a_row_a_trial_and_empty_cells_for_what_it_had_not(tmp_path: Path) -> None:
    found = [
        trial(1, [2.0, 1.0], architecture="tcn", kernel_size=3.0),
        trial(2, [2.0], architecture="bilstm", lstm_units=64.0),
        trial(3, [], state="INFEASIBLE", architecture="tcn", kernel_size=5.0),
    ]
    path = tmp_path / "trials.csv"
    trials.write_table(trials.table(found, epochs=2), path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["1", "2", "3"]
    assert rows[0] | {"seconds": ""} == {
        "id": "1", "state": "SUCCEEDED", "architecture": "tcn", "kernel_size": "3.0", "lstm_units": "",
        "epochs": "2", "val_loss": "1.0", "cer": "0.1", "stopped_early": "false", "seconds": "",
    }  # fmt: skip
    assert (rows[1]["stopped_early"], rows[1]["kernel_size"]) == ("true", "")
    assert (rows[2]["val_loss"], rows[2]["stopped_early"]) == ("", "false")


class Page(HTMLParser):
    """What a browser would fetch, and the cells it would show."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.cells.append(data.strip())


def test_the_report_needs_no_other_file_and_shows_text_as_text(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    trials.write_report([trial(1, [2.0, 1.0], activation="<b>relu</b>"), trial(2, [3.0])], 2, "crnn", path)
    page = Page(path.read_text())
    assert [source[:22] for source in page.sources] == ["data:image/png;base64,"]
    assert "<b>relu</b>" in page.cells


def test_the_report_of_trials_that_all_failed(tmp_path: Path) -> None:
    trials.write_report([trial(1, [], state="INFEASIBLE")], 2, "crnn", tmp_path / "report.html")
    assert "Best: none" in (tmp_path / "report.html").read_text()


def test_the_budget_counts_the_hours_of_all_trials() -> None:
    search = tune.dataclasses.replace(SEARCH, tune_budget=0.5)
    hour = tune.dataclasses.replace(trial(1, [1.0]), seconds=900.0)
    assert not search.is_spent([hour]) and search.is_spent([hour, hour])
    assert not SEARCH.is_spent([hour] * 1000)
    for wrong in (-1.0, math.nan, math.inf):
        with pytest.raises(UserError, match="--tune_budget"):
            tune.dataclasses.replace(SEARCH, tune_budget=wrong)


def test_the_noted_job_is_found_again_and_gcpc_reads_the_note(tmp_path: Path) -> None:
    from google.protobuf import json_format
    from google_cloud_pipeline_components.proto.gcp_resources_pb2 import GcpResources

    path = tmp_path / "deep" / "gcp_resources"
    assert api.noted_job(path) is None
    name = "projects/1/locations/us-central1/hyperparameterTuningJobs/2"
    api.note_job(path, tune.KIND, name, "us-central1")
    assert api.noted_job(path) == name
    noted = json_format.Parse(path.read_text(), GcpResources()).resources[0]
    assert noted.resource_type == "HyperparameterTuningJob"
    assert noted.resource_uri == f"https://us-central1-aiplatform.googleapis.com/v1/{name}"


def test_an_empty_note_is_no_job(tmp_path: Path) -> None:
    (tmp_path / "gcp_resources").touch()
    assert api.noted_job(tmp_path / "gcp_resources") is None


def test_a_cancelled_launcher_passes_it_on(tmp_path: Path) -> None:
    told = tmp_path / "told"
    code = (
        "import pathlib, sys, time; from images.launcher import api\n"
        "with api.on_cancel(lambda: pathlib.Path(sys.argv[1]).touch()):\n"
        "    print('ready', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(told)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    assert told.exists()


def test_waits_grow_to_a_limit() -> None:
    waits = api.waits()
    first = [next(waits) for _ in range(100)]
    assert first[0] == api.FIRST_WAIT
    assert first == sorted(first)
    assert first[-1] == api.LONGEST_WAIT


def test_what_is_written_can_be_read_by_training(tmp_path: Path) -> None:
    best = trial(1, [1.0], **{spec: value for spec, value in parameters().items()})
    outputs = tune.Outputs(*(str(tmp_path / name) for name in ("hyperparameters", "trials", "report", "metrics")))
    chosen, metrics = tune._write(SEARCH, [best], best, outputs)
    space = hyperparameters.of("crnn")
    assert hyperparameters.parse(space, json.loads((tmp_path / "hyperparameters").read_text())) == space()
    assert json.loads((tmp_path / "metrics").read_text()) == metrics
    assert metrics["best_val_loss"] == 1.0
    assert isinstance(chosen["batch_size"], int)
    given = tune.dataclasses.replace(SEARCH, given="batch_size=64")
    assert tune._write(given, [best], best, outputs)[0] == {**chosen, "batch_size": 64}


def parameters() -> dict[str, Any]:
    """The default hyperparameters as Vertex gives them back: every number is a float."""
    found = hyperparameters.to_dict(hyperparameters.of("crnn")())
    return {name: float(value) if isinstance(value, int) else value for name, value in found.items()}


def test_a_mistake_ends_with_one_line() -> None:
    flags = [f"--{field.name}=x" for field in tune.dataclasses.fields(tune.Outputs)]
    flags += [
        "--project=p",
        "--location=l",
        "--job_name=j",
        "--gcp_resources=g",
        "--system=crnn",
        "--examples=e",
    ]
    flags += ["--trial_image=i", "--trial_epochs=0", "--trial_examples=1", "--max_trials=1", "--parallel_trials=1"]
    done = subprocess.run([sys.executable, "-m", "images.launcher.tune", *flags], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: --trial_epochs=0: give at least 1\n")
