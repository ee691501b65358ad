"""Protects schedules: which runs are started when, once each, whatever is paused, missed, queued or killed."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    CreateScheduleRequest,
    DeleteScheduleRequest,
    GetScheduleRequest,
    ListPipelineJobsRequest,
    ListSchedulesRequest,
    PauseScheduleRequest,
    PipelineJob,
    ResumeScheduleRequest,
    Schedule,
    UpdateScheduleRequest,
)
from kfp import dsl

from localvertex.engine.running import SCHEDULE_TIME
from localvertex.services.operations import Operations
from localvertex.services.schedules import ScheduleService
from tests.localvertex.engine.pieces import say, wait
from tests.localvertex.engine.support import Bench, compiled

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC).timestamp()
MINUTE, HOUR = 60.0, 3600.0


@dsl.pipeline(name="clock")
def clock() -> None:
    say(text=dsl.PIPELINE_JOB_SCHEDULE_TIME_UTC_PLACEHOLDER)


@dsl.pipeline(name="slow")
def slow() -> None:
    wait(seconds=600.0)


class Scheduler:
    """Schedules over an engine, at a time of the test's own."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.now = NOON
        self.open()

    def open(self) -> None:
        """A server starts."""
        operations = Operations(self.bench.store)
        self.service = ScheduleService(self.bench.store, operations, self.bench.service, lambda: self.now)

    def restart(self, later: float) -> None:
        """The server is killed, and started again some seconds later."""
        self.bench.restart()
        self.now += later
        self.open()

    def pass_by(self, seconds: float) -> None:
        """Let time pass, as the scheduler's thread would: awake when something is due."""
        end = self.now + seconds
        while (again := self.service.tick()) <= end:
            self.now = max(self.now, again)
        self.now = end
        self.service.tick()

    def create(self, cron: str = "0 * * * *", pipeline: Any = clock, **schedule: Any) -> str:
        spec = compiled(pipeline, self.bench.folder / "pipeline.json")
        job = {"pipeline_spec": spec, "runtime_config": {"gcs_output_directory": "gs://bucket/root"}}
        given = {
            "display_name": "recurring",
            "cron": cron,
            "max_concurrent_run_count": 1,
            "create_pipeline_job_request": {"parent": self.bench.parent, "pipeline_job": job},
            **schedule,
        }
        request = CreateScheduleRequest(parent=self.bench.parent, schedule=given)
        return str(self.service.create_schedule(request).name)

    def update(self, name: str, *paths: str, **values: Any) -> Schedule:
        mask = {"paths": paths or list(values)}
        return self.service.update_schedule(UpdateScheduleRequest(schedule={"name": name, **values}, update_mask=mask))

    def pause(self, name: str) -> None:
        self.service.pause_schedule(PauseScheduleRequest(name=name))

    def resume(self, name: str, *, catch_up: bool = False) -> None:
        self.service.resume_schedule(ResumeScheduleRequest(name=name, catch_up=catch_up))

    def get(self, name: str) -> Schedule:
        return self.service.get_schedule(GetScheduleRequest(name=name))

    def runs(self, name: str) -> list[PipelineJob]:
        request = ListPipelineJobsRequest(parent=self.bench.parent, filter=f"schedule_name={name}")
        return list(self.bench.service.list_pipeline_jobs(request).pipeline_jobs)

    def hours(self, name: str) -> list[str]:
        """When the schedule wanted the runs that it started: `13:00`."""
        contexts = [job.job_detail.pipeline_run_context for job in self.runs(name)]
        return sorted(str(context.metadata[SCHEDULE_TIME])[11:16] for context in contexts)


@pytest.fixture
def scheduler(bench: Bench) -> Iterator[Scheduler]:
    made = Scheduler(bench)
    yield made
    made.service.close()


def at(hours: float) -> datetime:
    return datetime.fromtimestamp(NOON + hours * HOUR, UTC)


def state(schedule: Schedule) -> str:
    return str(Schedule.State(schedule.state).name)


def test_runs_are_started_on_time_and_say_which_time_that_was(scheduler: Scheduler) -> None:
    name = scheduler.create()
    scheduler.pass_by(59 * MINUTE)
    assert not scheduler.runs(name) and scheduler.get(name).next_run_time == at(1)
    scheduler.pass_by(70 * MINUTE)
    schedule = scheduler.get(name)
    assert scheduler.hours(name) == ["13:00", "14:00"]
    assert (schedule.started_run_count, schedule.next_run_time) == (2, at(3))
    last = schedule.last_scheduled_run_response
    assert (last.run_response, last.scheduled_run_time) == ("OK", at(2))
    (first,) = (job for job in scheduler.runs(name) if job.name.endswith("130000"))
    scheduler.bench.engine.join(first.name)
    done = scheduler.bench.get(first.name)
    assert done.state.name == "PIPELINE_STATE_SUCCEEDED" and done.schedule_name == name
    assert scheduler.bench.engine.journal.of(first.name)["say"].outputs.count("2030-01-01T13:00:00Z")


def test_a_schedule_ends_with_its_runs_or_its_time(scheduler: Scheduler) -> None:
    counted = scheduler.create(max_run_count=2)
    timed = scheduler.create(start_time=at(1), end_time=at(2.5))
    scheduler.pass_by(2.4 * HOUR)
    assert [state(scheduler.get(name)) for name in (counted, timed)] == ["COMPLETED", "ACTIVE"]
    scheduler.pass_by(3 * HOUR)
    assert state(scheduler.get(timed)) == "COMPLETED" and not scheduler.get(timed).next_run_time
    assert scheduler.hours(counted) == scheduler.hours(timed) == ["13:00", "14:00"]
    for change in (scheduler.pause, scheduler.resume, lambda name: scheduler.update(name, display_name="new")):
        with pytest.raises(exceptions.FailedPrecondition, match="is in state COMPLETED"):
            change(timed)


def test_two_schedules_of_a_pipeline_do_not_take_each_others_names(scheduler: Scheduler) -> None:
    both = [scheduler.create(), scheduler.create()]
    scheduler.pass_by(HOUR)
    assert [len(scheduler.runs(name)) for name in both] == [1, 1]


def test_missed_runs_are_skipped_on_resuming_unless_they_are_to_be_caught_up(scheduler: Scheduler) -> None:
    names = [scheduler.create(), scheduler.create(max_run_count=2)]
    for catch_up, expected in ((False, ["16:00"]), (True, ["16:00", "17:00", "18:00", "19:00", "20:00"])):
        for name in names:
            scheduler.pause(name)
        with pytest.raises(exceptions.FailedPrecondition, match="PAUSED and cannot be paused"):
            scheduler.pause(names[0])
        scheduler.pass_by(3.5 * HOUR)
        for name in names:
            scheduler.resume(name, catch_up=catch_up)
        scheduler.pass_by(0.6 * HOUR)
        assert scheduler.hours(names[0]) == expected
    assert scheduler.hours(names[1]) == ["16:00", "17:00"] and state(scheduler.get(names[1])) == "COMPLETED"
    schedule = scheduler.get(names[0])
    assert schedule.catch_up and schedule.last_pause_time < schedule.last_resume_time


def test_runs_missed_while_no_server_ran_are_treated_alike(scheduler: Scheduler) -> None:
    skips, catches_up, late = scheduler.create(), scheduler.create(), scheduler.create("0 15 * * *")
    scheduler.pause(catches_up)
    scheduler.resume(catches_up, catch_up=True)
    scheduler.restart(later=3 * HOUR + 30)
    scheduler.pass_by(HOUR)
    assert scheduler.hours(skips) == ["15:00", "16:00"]  # half a minute late is not missed
    assert scheduler.hours(catches_up) == ["13:00", "14:00", "15:00", "16:00"]
    assert scheduler.hours(late) == ["15:00"]


def test_a_kill_at_any_moment_neither_loses_nor_doubles_a_run(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = scheduler.create()
    scheduler.now += HOUR

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:  # before the commit
        patch.setattr(scheduler.bench.store, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            scheduler.service.tick()
    assert not scheduler.runs(name)
    with monkeypatch.context() as patch:  # after it
        patch.setattr(scheduler.bench.service, "start", killed)
        with pytest.raises(KeyboardInterrupt):
            scheduler.service.tick()
    assert [job.state.name for job in scheduler.runs(name)] == ["PIPELINE_STATE_PENDING"]
    scheduler.restart(later=1)
    scheduler.service.tick()
    (run,) = scheduler.runs(name)
    scheduler.bench.engine.join(run.name)
    assert scheduler.bench.get(run.name).state.name == "PIPELINE_STATE_SUCCEEDED"


def test_active_runs_are_limited_and_the_next_are_skipped_or_queued(scheduler: Scheduler) -> None:
    limits = {"max_concurrent_active_run_count": 1, "pipeline": slow}
    skips, queues = scheduler.create(**limits), scheduler.create(allow_queueing=True, **limits)
    free = scheduler.create(pipeline=slow)
    for _ in range(3):
        scheduler.now += HOUR
        scheduler.service.tick()
    assert scheduler.hours(skips) == scheduler.hours(queues) == ["13:00"]
    assert scheduler.hours(free) == ["13:00", "14:00", "15:00"]
    assert scheduler.get(queues).next_run_time == at(2)
    for name in (skips, queues):
        (run,) = scheduler.runs(name)
        scheduler.bench.engine.cancel(run.name)
        scheduler.bench.engine.join(run.name)
    scheduler.service.tick()
    assert (scheduler.hours(skips), scheduler.hours(queues)) == (["13:00"], ["13:00", "14:00"])


def test_a_run_that_is_refused_is_said_and_the_next_is_tried(scheduler: Scheduler) -> None:
    name = scheduler.create()
    job = dict(parent=scheduler.bench.parent, pipeline_job_id="fixed")
    scheduler.update(name, "create_pipeline_job_request.pipeline_job_id", create_pipeline_job_request=job)
    scheduler.pass_by(2 * HOUR)
    schedule = scheduler.get(name)
    assert (schedule.started_run_count, schedule.next_run_time) == (1, at(3))
    assert "ALREADY_EXISTS: PipelineJob" in schedule.last_scheduled_run_response.run_response


def test_updates_change_what_the_mask_names_and_skip_what_was_not_started(scheduler: Scheduler) -> None:
    name = scheduler.create()
    scheduler.now += 2.5 * HOUR
    changed = scheduler.update(
        name, "cron", "max_run_count", "state", cron="30 * * * *", max_run_count=5, display_name="x", state="PAUSED"
    )
    assert (changed.cron, changed.max_run_count, changed.display_name) == ("30 * * * *", 5, "recurring")
    assert state(changed) == "ACTIVE" and changed.next_run_time == at(3.5)
    job = {"runtime_config": {"gcs_output_directory": "gs://other/root"}}
    path = "create_pipeline_job_request.pipeline_job.runtime_config"
    changed = scheduler.update(name, path, create_pipeline_job_request={"pipeline_job": job})
    assert changed.create_pipeline_job_request.pipeline_job.runtime_config.gcs_output_directory == "gs://other/root"
    assert scheduler.get(name).create_pipeline_job_request.parent == scheduler.bench.parent
    for values, message in (
        ({"cron": "often"}, "schedule.cron: 'often' is not"),
        ({"display_name": ""}, "display_name cannot be unset"),
        ({"create_notebook_execution_job_request": {"parent": "p"}}, "type of the scheduled request"),
        ({"end_time": at(-1)}, "end_time must be in the future"),
    ):
        with pytest.raises(exceptions.InvalidArgument, match=message):
            scheduler.update(name, **values)
    with pytest.raises(exceptions.InvalidArgument, match="has no field nonsense"):
        scheduler.update(name, "nonsense")
    assert scheduler.get(name).cron == "30 * * * *"


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"display_name": ""}, "display_name is required"),
        ({"cron": "61 * * * *"}, "schedule.cron: .* Bad minute"),
        ({"cron": "TZ=Nowhere * * * * *"}, "'Nowhere' is not a time zone"),
        ({"max_concurrent_run_count": 0}, "max_concurrent_run_count is required"),
        ({"end_time": at(-1)}, "end_time must be in the future"),
        ({"create_pipeline_job_request": {}}, "create_pipeline_job_request"),
        ({"create_pipeline_job_request": {"parent": "p", "pipeline_job": {}}}, "schemaVersion|pipeline"),
    ],
)
def test_what_cannot_be_is_refused_at_once(scheduler: Scheduler, schedule: dict[str, Any], message: str) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=message):
        scheduler.create(**schedule)


def test_schedules_are_found_and_deleted_but_their_runs_stay(scheduler: Scheduler) -> None:
    first = scheduler.create(display_name="nightly-a", end_time=at(5))
    second = scheduler.create(display_name="nightly-b", start_time=at(2))
    scheduler.pause(second)

    def found(filter: str = "", order_by: str = "") -> list[str]:
        request = ListSchedulesRequest(parent=scheduler.bench.parent, filter=filter, order_by=order_by)
        return [schedule.name for schedule in scheduler.service.list_schedules(request).schedules]

    assert found() == [second, first]
    assert found('state="ACTIVE" AND display_name:"nightly-*"') == [first]
    assert found("end_time:*") == [first] and found("NOT end_time:*") == [second]
    assert found("create_pipeline_job_request:*", "next_run_time") == [first, second]
    assert found('next_run_time>"2030-01-01T13:30:00Z"') == [second]
    scheduler.pass_by(HOUR)
    scheduler.service.delete_schedule(DeleteScheduleRequest(name=first))
    assert found() == [second] and len(scheduler.runs(first)) == 1
    with pytest.raises(exceptions.NotFound):
        scheduler.get(first)


def test_the_thread_starts_what_falls_due(bench: Bench) -> None:
    ahead = 0.0

    def time_of_the_test() -> float:
        return NOON + ahead

    service = ScheduleService(bench.store, Operations(bench.store), bench.service, time_of_the_test)
    scheduler = Scheduler(bench)
    scheduler.service = service
    service.resume()
    try:
        name = scheduler.create()
        ahead = HOUR
        scheduler.create(display_name="wakes the thread")
        while not scheduler.get(name).started_run_count:
            time.sleep(0.02)
    finally:
        service.close()
    assert scheduler.hours(name) == ["13:00"]
