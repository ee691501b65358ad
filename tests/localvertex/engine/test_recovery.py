"""Protects durability: a run goes on after the server was killed or stopped, and ends when it is cancelled."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    BatchCancelPipelineJobsRequest,
    BatchDeletePipelineJobsRequest,
    CancelPipelineJobRequest,
    CreatePipelineJobRequest,
    DeletePipelineJobRequest,
    ListPipelineJobsRequest,
)
from kfp import dsl
from kfp.dsl import Artifact, Output

from localvertex.engine.journal import Journal
from tests.localvertex.engine.pieces import fail, say, wait
from tests.localvertex.engine.support import Bench, Result, compiled
from tests.localvertex.processes import workloads


@dsl.container_component
def gated(gate: str, mark: Output[Artifact]):
    """Leaves one line a start in its folder, then waits for a file."""
    script = 'echo start >> "$1"; until [ -e "$0" ]; do sleep 0.02; done'
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", script], args=[gate, mark.path])


@dsl.pipeline(name="gated")
def pipeline(gate: str) -> None:
    first = say(text="first")
    middle = gated(gate=gate).after(first)
    say(text="last").after(middle)


SERVER = """
import sys, time
from pathlib import Path
from tests.localvertex.engine.support import Bench
import json
bench = Bench(Path(sys.argv[1]))
bench.submit(json.loads(Path(sys.argv[2]).read_text()), "killed", {"gate": sys.argv[3]})
time.sleep(600)
"""


def test_a_killed_server_goes_on_where_it_was(tmp_path: Path) -> None:
    gate, file = tmp_path / "gate", tmp_path / "spec.json"
    compiled(pipeline, file)
    command = [sys.executable, "-c", SERVER, str(tmp_path), str(file), str(gate)]
    server = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": os.getcwd()})
    marks = tmp_path / "home/gcs/bucket/root"
    try:
        _until(lambda: list(marks.glob("*/killed/gated_*/mark")))
    finally:
        os.kill(server.pid, signal.SIGKILL)
        server.wait()
        # What the server left running is for the next one to end, should the test not get there.
        gate.touch()
    bench = Bench(tmp_path)
    bench.engine.resume()
    name = f"{bench.parent}/pipelineJobs/killed"
    bench.engine.join(name)
    result = Result(bench.get(name), bench)
    assert result.state == "SUCCEEDED"
    assert result.executed() == ["gated", "say-2"]
    (mark,) = marks.glob("*/killed/gated_*/mark")
    assert mark.read_text() == "start\nstart\n", "the task was recovered in its own folder, and once"
    first, second = bench.engine.journal.attempts(result.records["gated"])
    assert (first.number, first.state.name, second.number, second.state.name) == (0, "FAILED", 0, "SUCCEEDED")
    assert "localvertex ended meanwhile" in first.error and first.ended <= second.started
    bench.close()


def test_a_stopped_server_ends_its_processes_and_goes_on_later(bench: Bench) -> None:
    gate = bench.folder / "gate"
    name = bench.submit(pipeline, "stopped", {"gate": str(gate)})
    _until(lambda: _state(bench, name, "gated") == "RUNNING" and bench.runner.started[1:])
    bench.close()
    assert not workloads(bench.home)
    bench.open()
    assert bench.get(name).state.name == "PIPELINE_STATE_RUNNING"
    gate.touch()
    bench.engine.resume()
    bench.engine.join(name)
    assert Result(bench.get(name), bench).executed() == ["gated", "say-2"]
    assert bench.get(name).state.name == "PIPELINE_STATE_SUCCEEDED"


def test_cancelling_stops_processes_and_starts_nothing_more(bench: Bench) -> None:
    name = bench.submit(pipeline, "cancelled", {"gate": str(bench.folder / "never")})
    _until(lambda: _state(bench, name, "gated") == "RUNNING" and bench.runner.started[1:])
    bench.service.cancel_pipeline_job(CancelPipelineJobRequest(name=name))
    assert bench.get(name).state.name in ("PIPELINE_STATE_CANCELLING", "PIPELINE_STATE_CANCELLED")
    bench.engine.join(name)
    result = Result(bench.get(name), bench)
    assert result.state == "CANCELLED"
    assert result.states == {"say": "SUCCEEDED", "gated": "CANCELLED", "say-2": "CANCELLED"}
    assert not workloads(bench.home)
    bench.service.cancel_pipeline_job(CancelPipelineJobRequest(name=name))
    assert bench.get(name).state.name == "PIPELINE_STATE_CANCELLED"


def test_cancelling_does_not_wait_for_a_retry(bench: Bench) -> None:
    @dsl.pipeline(name="patient")
    def patient() -> None:
        fail(message="x").set_retry(1, backoff_duration="3000s")

    name = bench.submit(patient, "patient-1")
    _until(lambda: (record := Journal(bench.store).of(name).get("fail")) is not None and record.attempt == 1)
    bench.service.cancel_pipeline_job(CancelPipelineJobRequest(name=name))
    bench.engine.join(name)
    assert bench.get(name).state.name == "PIPELINE_STATE_CANCELLED"


def test_a_run_that_was_being_cancelled_when_killed_ends_cancelled(bench: Bench) -> None:
    name = bench.submit(pipeline, "half", {"gate": str(bench.folder / "never")})
    _until(lambda: _state(bench, name, "gated") == "RUNNING" and bench.runner.started[1:])
    bench.engine.cancel = lambda name: None  # type: ignore[method-assign]
    bench.service.cancel_pipeline_job(CancelPipelineJobRequest(name=name))
    bench.restart()
    bench.engine.join(name)
    assert bench.get(name).state.name == "PIPELINE_STATE_CANCELLED"


def test_nested_tasks_under_way_in_a_run_that_was_being_cancelled_when_killed_are_cancelled(bench: Bench) -> None:
    @dsl.pipeline(name="nested")
    def nested(gate: str) -> None:
        with dsl.ParallelFor([1, 2]):
            gated(gate=gate)

    name = bench.submit(nested, "nested", {"gate": str(bench.folder / "never")})
    _until(lambda: _state(bench, name, "for-loop-2/1/gated") == "RUNNING" and bench.runner.started[1:])
    bench.engine.cancel = lambda name: None  # type: ignore[method-assign]
    bench.service.cancel_pipeline_job(CancelPipelineJobRequest(name=name))
    bench.restart()
    bench.engine.join(name)
    result = Result(bench.get(name), bench)
    assert set(result.states.values()) == {"CANCELLED"}
    details = result.job.job_detail.task_details
    assert all(detail.state.name == "CANCELLED" for detail in details if "gated" in detail.task_name)
    assert all(detail.execution.state.name == "CANCELLED" for detail in details if "gated" in detail.task_name)


def test_a_job_that_is_cancelled_before_it_is_started_ends_cancelled(bench: Bench) -> None:
    job = bench.job(pipeline, {"gate": str(bench.folder / "never")})
    accepted = bench.service.accept(
        CreatePipelineJobRequest(parent=bench.parent, pipeline_job=job, pipeline_job_id="early")
    )
    bench.service.cancel_pipeline_job(CancelPipelineJobRequest(name=accepted.name))
    bench.service.start(accepted)
    bench.engine.join(accepted.name)
    assert bench.get(accepted.name).state.name == "PIPELINE_STATE_CANCELLED"


def test_a_run_in_which_a_task_failed_can_be_cancelled(bench: Bench) -> None:
    @dsl.pipeline(name="failing")
    def failing(gate: str) -> None:
        fail(message="x")
        gated(gate=gate)

    name = bench.submit(failing, "failing", {"gate": str(bench.folder / "never")})
    _until(lambda: _state(bench, name, "fail") == "FAILED" and _state(bench, name, "gated") == "RUNNING")
    bench.service.cancel_pipeline_job(CancelPipelineJobRequest(name=name))
    bench.engine.join(name)
    result = Result(bench.get(name), bench)
    assert result.state == "CANCELLED"
    assert result.states == {"fail": "FAILED", "gated": "CANCELLED"}


def test_a_job_under_way_shows_its_tasks(bench: Bench) -> None:
    name = bench.submit(pipeline, "shown", {"gate": str(bench.folder / "gate")})
    _until(lambda: _state(bench, name, "gated") == "RUNNING")
    (listed,) = bench.service.list_pipeline_jobs(ListPipelineJobsRequest(parent=bench.parent)).pipeline_jobs
    states = {detail.task_name: detail.state.name for detail in listed.job_detail.task_details}
    assert states == {"shown": "RUNNING", "say": "SUCCEEDED", "gated": "RUNNING"}
    (bench.folder / "gate").touch()
    bench.engine.join(name)


def test_only_jobs_that_ended_can_be_deleted(bench: Bench) -> None:
    @dsl.pipeline(name="short")
    def short(seconds: float) -> None:
        wait(seconds=seconds)

    done = bench.run(short, parameters={"seconds": 0.0}).job.name
    busy = bench.submit(short, "busy", {"seconds": 60.0})
    with pytest.raises(exceptions.FailedPrecondition):
        bench.service.batch_delete_pipeline_jobs(
            BatchDeletePipelineJobsRequest(parent=bench.parent, names=[done, busy])
        )
    operation = bench.service.batch_cancel_pipeline_jobs(
        BatchCancelPipelineJobsRequest(parent=bench.parent, names=[busy])
    )
    _until(lambda: bench.get(busy).state.name == "PIPELINE_STATE_CANCELLED")
    assert operation.name.startswith(busy)
    for name in (done, busy):
        bench.service.delete_pipeline_job(DeletePipelineJobRequest(name=name))
        _until(lambda name=name: not _exists(bench, name))
    assert bench.engine.journal.of(done) == {}


def _exists(bench: Bench, name: str) -> bool:
    try:
        bench.get(name)
    except exceptions.NotFound:
        return False
    return True


def _state(bench: Bench, name: str, path: str) -> str:
    record = bench.engine.journal.of(name).get(path)
    return record.state.name if record else ""


def _until(condition: Any) -> None:
    while not condition():
        time.sleep(0.01)
