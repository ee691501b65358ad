"""Protects the SDK's schedules of pipeline jobs against localvertex, over gRPC and REST."""

import time
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import ResumeScheduleRequest
from kfp import compiler, dsl
from kfp.dsl import OutputPath

RUNS = "gs://contract-tests/schedules"
EVERY_MINUTE = "TZ=Europe/Berlin * * * * *"


@dsl.container_component
def stamp(time: str, written: OutputPath(str)):  # type: ignore
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'printf %s "$0" > "$1"'], args=[time, written])


@dsl.pipeline(name="recurring")
def pipeline() -> None:
    stamp(time=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("template") / "pipeline.json"
    compiler.Compiler().compile(pipeline, str(file))
    return str(file)


@pytest.fixture
def schedule(aiplatform: ModuleType, template: str) -> Any:
    """A schedule that is not created yet."""
    job = aiplatform.PipelineJob(display_name="recurring", template_path=template, pipeline_root=RUNS)
    return aiplatform.PipelineJobSchedule(pipeline_job=job, display_name="every minute")


def test_runs_recur_until_there_were_enough(schedule: Any) -> None:
    # What fell due within the last minute is late, not missed: the first run starts at once.
    schedule.create(cron=EVERY_MINUTE, start_time=ago(hours=1), max_run_count=1)
    while schedule.state.name == "ACTIVE":
        time.sleep(0.05)
    assert schedule.state.name == "COMPLETED" and schedule.done()
    assert schedule.gca_resource.started_run_count == 1
    assert schedule.gca_resource.last_scheduled_run_response.run_response == "OK"
    (run,) = schedule.list_jobs(enable_simple_view=False)
    while not run.done():
        time.sleep(0.05)
    (task,) = (detail for detail in run.task_details if detail.task_name == "stamp")
    due = schedule.gca_resource.last_scheduled_run_response.scheduled_run_time
    assert task.execution.metadata["output:written"] == due.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert run.gca_resource.schedule_name == schedule.resource_name
    schedule.delete()
    assert not schedule.list_jobs(filter='display_name="nobody"')


def test_schedules_are_paused_resumed_updated_found_and_deleted(aiplatform: ModuleType, schedule: Any) -> None:
    schedule.create(cron="0 9 * * 1", end_time=ago(days=-30), max_concurrent_active_run_count=2)
    assert schedule.gca_resource.next_run_time.strftime("%a %H:%M") == "Mon 09:00"
    schedule.pause()
    assert schedule.state.name == "PAUSED"
    schedule.resume()
    assert schedule.state.name == "ACTIVE"
    schedule.pause()
    schedule.api_client.resume_schedule(ResumeScheduleRequest(name=schedule.resource_name, catch_up=True))
    schedule.update(display_name="mornings", cron="CRON_TZ=America/New_York 30 7 * * *", max_run_count=3)
    found = aiplatform.PipelineJobSchedule.get(schedule.resource_name)
    assert (found.display_name, found.max_run_count, found.gca_resource.catch_up) == ("mornings", 3, True)
    assert found.gca_resource.next_run_time.minute == 30
    listed = aiplatform.PipelineJobSchedule.list(
        filter='state="ACTIVE" AND display_name:"morn*"', order_by="create_time"
    )
    assert schedule.resource_name in [one.resource_name for one in listed]
    assert not schedule.list_jobs()
    schedule.delete()
    with pytest.raises(exceptions.NotFound):
        aiplatform.PipelineJobSchedule.get(schedule.resource_name)


def test_a_schedule_that_makes_no_sense_is_refused(schedule: Any) -> None:
    with pytest.raises((exceptions.InvalidArgument, exceptions.BadRequest), match="'Mars' is not a time zone"):
        schedule.create(cron="TZ=Mars 0 9 * * *")


def ago(**time_span: float) -> str:
    return (datetime.now(UTC) - timedelta(**time_span)).strftime("%Y-%m-%dT%H:%M:%SZ")
