"""ScheduleService: pipeline jobs that recur, started by one thread that sleeps until the next is due.

What a schedule owes is said by its `next_run_time` alone: it moves on in the transaction that stores the run, so that
a kill neither loses nor doubles one, and stays behind while runs are queued or the schedule is paused.

See https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.schedules.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    CreatePipelineJobRequest,
    CreateScheduleRequest,
    DeleteOperationMetadata,
    DeleteScheduleRequest,
    GetScheduleRequest,
    ListSchedulesRequest,
    ListSchedulesResponse,
    PauseScheduleRequest,
    PipelineJob,
    ResumeScheduleRequest,
    Schedule,
    UpdateScheduleRequest,
)
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2, field_mask_pb2
from google.protobuf.message import Message

from localvertex import filters, names
from localvertex.cron import Cron, CronError
from localvertex.engine.runs import UNFINISHED
from localvertex.errors import grpc_code
from localvertex.services import pipelines
from localvertex.services.moments import seconds, set_seconds
from localvertex.services.operations import Operations
from localvertex.store import Store, resources

log = logging.getLogger(__name__)

_LATE_SECONDS = 60.0
"""A run that is later than cron's own unit was missed; before, it is merely late."""

_LONGEST_SLEEP = 30.0
_LOOK_AGAIN_SECONDS = 1.0
_A_MICROSECOND = 1e-6
_LONGEST_DISPLAY_NAME = 128
_SETTABLE = frozenset(
    {
        "display_name",
        "cron",
        "start_time",
        "end_time",
        "max_run_count",
        "max_concurrent_run_count",
        "max_concurrent_active_run_count",
        "allow_queueing",
        "create_pipeline_job_request",
    }
)


class ScheduleService:
    """Schedules of pipeline jobs.

    `max_concurrent_run_count` limits how many runs are being started at once, as documented, not how many
    execute: it always holds, since runs are started one by one. `max_concurrent_active_run_count` limits how many
    have not ended.

    Args:
        store: where schedules are kept.
        operations: deletions are long-running.
        jobs: accepts and starts the runs.
        clock: seconds since 1970.
    """

    SERVICE = "google.cloud.aiplatform.v1.ScheduleService"

    def __init__(
        self,
        store: Store,
        operations: Operations,
        jobs: pipelines.PipelineService,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._operations = operations
        self._jobs = jobs
        self._clock = clock
        self._awake_since = clock() - _LATE_SECONDS
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._keep_time, name="schedules", daemon=True)

    def resume(self) -> None:
        """Begin to start what is due; what fell due before is caught up where the schedule says so."""
        self._thread.start()

    def close(self) -> None:
        """Start nothing more."""
        self._closing = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def create_schedule(self, request: CreateScheduleRequest) -> Schedule:
        """Make a schedule; it is active from its start time on."""
        now = self._clock()
        schedule = Schedule(state=Schedule.State(Schedule.State.ACTIVE))
        _settable_mask().MergeMessage(Schedule.pb(request.schedule), Schedule.pb(schedule))
        schedule.name = f"{request.parent}/schedules/{names.new_id()}"
        if "create_notebook_execution_job_request" in request.schedule:
            raise exceptions.MethodNotImplemented(
                "schedule.create_notebook_execution_job_request is not supported by localvertex, "
                "which has no notebooks."
            )
        start = seconds(schedule, "start_time")
        if not start:
            set_seconds(schedule, "start_time", now)
        _check(schedule, now)
        _plan(schedule, max(start, now - _LATE_SECONDS) - _A_MICROSECOND if start else now)
        created = self._store.create(schedule)
        self._wake.set()
        return created

    def get_schedule(self, request: GetScheduleRequest) -> Schedule:
        """A schedule as it is now."""
        return self._store.get(Schedule, request.name)

    def list_schedules(self, request: ListSchedulesRequest) -> ListSchedulesResponse:
        """Schedules of a location, newest first unless ordered otherwise."""
        found, token = filters.listing(
            self._store,
            Schedule,
            request.parent,
            request.filter,
            request.order_by,
            request.page_size,
            request.page_token,
        )
        return ListSchedulesResponse(schedules=found, next_page_token=token)

    def update_schedule(self, request: UpdateScheduleRequest) -> Schedule:
        """Change a schedule; runs not started before the change are skipped."""
        now = self._clock()
        mask = _to_change(request)

        def change(schedule: Schedule) -> None:
            if schedule.state == Schedule.State.COMPLETED:
                raise _wrong_state(schedule, "updated")
            _check_unset(mask, request.schedule, schedule)
            mask.MergeMessage(
                Schedule.pb(request.schedule),
                Schedule.pb(schedule),
                replace_message_field=True,
                replace_repeated_field=True,
            )
            _check(schedule, now)
            _plan(schedule, max(now, seconds(schedule, "start_time") - _A_MICROSECOND))

        return self._changed(request.schedule.name, change)

    def pause_schedule(self, request: PauseScheduleRequest) -> empty_pb2.Empty:
        """Start no new runs until resumed; those already started go on."""

        def change(schedule: Schedule) -> None:
            if schedule.state != Schedule.State.ACTIVE:
                raise _wrong_state(schedule, "paused")
            schedule.state = Schedule.State(Schedule.State.PAUSED)
            set_seconds(schedule, "last_pause_time", self._clock())

        self._changed(request.name, change)
        return empty_pb2.Empty()

    def resume_schedule(self, request: ResumeScheduleRequest) -> empty_pb2.Empty:
        """Start runs again: the missed ones first if they are to be caught up, else from the next one on."""

        def change(schedule: Schedule) -> None:
            if schedule.state != Schedule.State.PAUSED:
                raise _wrong_state(schedule, "resumed")
            now = self._clock()
            schedule.state = Schedule.State(Schedule.State.ACTIVE)
            schedule.catch_up = request.catch_up
            set_seconds(schedule, "last_resume_time", now)
            if not request.catch_up and seconds(schedule, "next_run_time") < now:
                _plan(schedule, now)

        self._changed(request.name, change)
        return empty_pb2.Empty()

    def delete_schedule(self, request: DeleteScheduleRequest) -> operations_pb2.Operation:
        """Delete a schedule; its runs stay."""
        self._store.get(Schedule, request.name)
        return self._operations.start(
            request.name, lambda: self._store.delete(Schedule, request.name), metadata=DeleteOperationMetadata()
        )

    def tick(self) -> float:
        """Start all runs that are due; returns when to look again, in seconds since 1970."""
        now = self._clock()
        active = self._store.select(Schedule, resources.c.state == int(Schedule.State.ACTIVE))
        return min((self._catch_up_with(schedule.name, now) for schedule in active), default=math.inf)

    def _keep_time(self) -> None:
        while not self._closing:
            self._wake.clear()
            try:
                again = self.tick()
            except Exception:
                log.exception("schedules broke down")
                again = self._clock() + _LOOK_AGAIN_SECONDS
            sleep = max(0.0, min(_LONGEST_SLEEP, again - self._clock()))
            alarm = self._clock() + sleep
            self._wake.wait(sleep)
            if self._clock() > alarm + _LATE_SECONDS:  # the machine slept too
                self._awake_since = self._clock() - _LATE_SECONDS

    def _catch_up_with(self, name: str, now: float) -> float:
        again = now
        while again <= now and not self._closing:
            with self._store.write():
                again, job = self._step(name, now)
            if job is not None:
                self._jobs.start(job)
        return again

    def _step(self, name: str, now: float) -> tuple[float, PipelineJob | None]:
        """Decide on the next run of a schedule, within a transaction.

        Returns:
            When to decide again, and the run to be started once that is committed.
        """
        schedule = self._store.find(Schedule, name)
        if schedule is None or schedule.state != Schedule.State.ACTIVE:
            return math.inf, None
        due = seconds(schedule, "next_run_time") or math.inf
        end = seconds(schedule, "end_time") or math.inf
        if _is_spent(schedule) or (due > now and end <= now):
            schedule.state = Schedule.State(Schedule.State.COMPLETED)
            Schedule.pb(schedule).ClearField("next_run_time")
            self._store.save(schedule)
            return math.inf, None
        if due > now:
            return min(due, end), None
        since = max(self._awake_since, seconds(schedule, "last_resume_time"))
        missed = due < since
        job = None
        if missed and not schedule.catch_up:
            _plan(schedule, since)
        elif self._is_full(schedule):
            if missed or schedule.allow_queueing:
                return now + _LOOK_AGAIN_SECONDS, None
            _plan(schedule, due)
        else:
            job = self._run(schedule, due)
            _plan(schedule, due)
        self._store.save(schedule)
        return now, job

    def _is_full(self, schedule: Schedule) -> bool:
        limit = schedule.max_concurrent_active_run_count
        if not limit:
            return False
        unfinished = resources.c.state.in_([int(state) for state in UNFINISHED])
        parent = schedule.create_pipeline_job_request.parent
        active = self._store.select(PipelineJob, unfinished, parent=parent)
        return sum(job.schedule_name == schedule.name for job in active) >= limit

    def _run(self, schedule: Schedule, due: float) -> PipelineJob | None:
        request = CreatePipelineJobRequest(schedule.create_pipeline_job_request)
        job, response = None, "OK"
        try:
            job = self._jobs.accept(request, schedule=schedule.name, due=due)
            schedule.started_run_count += 1
        except exceptions.GoogleAPICallError as error:
            response = f"{grpc_code(error).name}: {error.message}"
            log.warning("%s: the run of %s was refused: %s", schedule.name, due, response)
        schedule.last_scheduled_run_response = Schedule.RunResponse(run_response=response)
        set_seconds(schedule.last_scheduled_run_response, "scheduled_run_time", due)
        return job

    def _changed(self, name: str, change: Callable[[Schedule], None]) -> Schedule:
        changed = self._store.update(Schedule, name, change)
        self._wake.set()
        return changed


def _plan(schedule: Schedule, moment: float) -> None:
    """Set the next run to the first time after a moment; there is none after the schedule's end."""
    due = Cron(schedule.cron).after(moment)
    if due > (seconds(schedule, "end_time") or math.inf):
        Schedule.pb(schedule).ClearField("next_run_time")
    else:
        set_seconds(schedule, "next_run_time", due)


def _is_spent(schedule: Schedule) -> bool:
    return 0 < schedule.max_run_count <= schedule.started_run_count


def _settable_mask() -> field_mask_pb2.FieldMask:
    return field_mask_pb2.FieldMask(paths=sorted(_SETTABLE))


def _check(schedule: Schedule, now: float) -> None:
    """Refuse a schedule that cannot be; raises InvalidArgument with the field."""
    for problem in _problems(schedule, now):
        raise exceptions.InvalidArgument(f"schedule.{problem}")
    try:
        Cron(schedule.cron)
    except CronError as error:
        raise exceptions.InvalidArgument(f"schedule.cron: {error}.") from None
    pipelines.check(CreatePipelineJobRequest(schedule.create_pipeline_job_request))


def _problems(schedule: Schedule, now: float) -> Iterator[str]:
    if not schedule.display_name:
        yield "display_name is required."
    if len(schedule.display_name) > _LONGEST_DISPLAY_NAME:
        yield f"display_name is longer than {_LONGEST_DISPLAY_NAME} characters."
    if not schedule.cron:
        yield "cron is required."
    if "create_pipeline_job_request" not in schedule:
        yield "create_pipeline_job_request is required."
    if not schedule.create_pipeline_job_request.parent:
        yield "create_pipeline_job_request.parent is required."
    if schedule.max_concurrent_run_count < 1:
        yield "max_concurrent_run_count is required, and must be at least 1."
    if min(schedule.max_run_count, schedule.max_concurrent_active_run_count) < 0:
        yield "max_run_count and max_concurrent_active_run_count must not be negative."
    end = seconds(schedule, "end_time")
    if end and end <= max(now, seconds(schedule, "start_time")):
        yield "end_time must be in the future, and after start_time."


def _to_change(request: UpdateScheduleRequest) -> field_mask_pb2.FieldMask:
    """What an update is to change; output-only fields are not heeded."""
    paths = set(request.update_mask.paths)
    if not paths:
        raise exceptions.InvalidArgument("update_mask must not be empty.")
    if "*" in paths:
        paths = {field.name for field, _ in Schedule.pb(request.schedule).ListFields()} & _SETTABLE
    for path in paths:
        top = path.partition(".")[0]
        if top not in Schedule.meta.fields:
            raise exceptions.InvalidArgument(f"update_mask: a Schedule has no field {path}.")
        if top == "create_notebook_execution_job_request":
            raise exceptions.InvalidArgument("update_mask: the type of the scheduled request cannot be changed.")
    return field_mask_pb2.FieldMask(paths=sorted(path for path in paths if path.partition(".")[0] in _SETTABLE))


def _check_unset(mask: field_mask_pb2.FieldMask, new: Schedule, old: Schedule) -> None:
    for path in mask.paths:
        if _has(Schedule.pb(old), path) and not _has(Schedule.pb(new), path):
            raise exceptions.InvalidArgument(f"schedule.{path} cannot be unset.")


def _has(message: Message, path: str) -> bool:
    """Whether a field holds anything; a flag that is off is a value too."""
    for name in path.split("."):
        field = message.DESCRIPTOR.fields_by_name.get(name)
        if field is None:
            raise exceptions.InvalidArgument(f"update_mask: {message.DESCRIPTOR.name} has no field {name}.")
        value = getattr(message, name)
        if not isinstance(value, Message):
            return isinstance(value, bool) or bool(value)
        if not message.HasField(name):
            return False
        message = value
    return True


def _wrong_state(schedule: Schedule, what: str) -> exceptions.FailedPrecondition:
    return exceptions.FailedPrecondition(
        f"{schedule.name} is in state {Schedule.State(schedule.state).name} and cannot be {what}."
    )
