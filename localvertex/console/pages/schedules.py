"""Schedules: when each runs next and how its last runs went; pause, resume, run now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.cloud.aiplatform_v1.types import (
    CreatePipelineJobRequest,
    PauseScheduleRequest,
    ResumeScheduleRequest,
    Schedule,
)

from localvertex import names
from localvertex.console import queries
from localvertex.console.pages.runs import listed, parameters_of
from localvertex.console.queries import state_name
from localvertex.console.services import ConsoleServices
from localvertex.console.web import Answer, Page, Redirect, Route, Visit, address
from localvertex.services.moments import seconds

_SCHEDULE = "projects/{project}/locations/{location}/schedules/{id}"
_LATEST = 10


class SchedulePages:
    """The pages.

    Args:
        services: whose schedules they are.
    """

    def __init__(self, services: ConsoleServices) -> None:
        self._services = services
        self._store = services.store

    def routes(self) -> Sequence[Route]:
        """Their addresses."""
        return (
            Route("GET", "schedules", self._list),
            Route("POST", f"{_SCHEDULE}:pause", self._pause),
            Route("POST", f"{_SCHEDULE}:resume", self._resume),
            Route("POST", f"{_SCHEDULE}:run", self._run_now),
            Route("GET", _SCHEDULE, self._schedule),
        )

    def _list(self, visit: Visit) -> Answer:
        found, older = queries.read_page(self._store, Schedule, visit.query.get("before", ""))
        values = {
            "schedules": [{**shown(each), "latest": self._latest(str(each.name), _LATEST)} for each in found],
            "newest": visit.address(before=None) if visit.query.get("before") else "",
            "older": visit.address(before=older) if older else "",
        }
        return Page("schedules.html", "Schedules", values, live=("schedules",))

    def _schedule(self, visit: Visit) -> Answer:
        schedule = self._store.get(Schedule, visit.name)
        told = shown(schedule)
        values = {
            "section": "schedules",
            "schedule": told,
            "parameters": parameters_of(schedule.create_pipeline_job_request.pipeline_job),
            "runs": self._latest(visit.name, queries.PAGE),
        }
        return Page("schedule.html", told["display_name"], values, live=("state", "runs"))

    def _latest(self, name: str, limit: int) -> list[dict[str, Any]]:
        return [listed(run) for run in queries.newest_of(self._store, "schedule_name", name, limit)]

    def _pause(self, visit: Visit) -> Answer:
        self._services.schedules.pause_schedule(PauseScheduleRequest(name=visit.name))
        return _back(visit)

    def _resume(self, visit: Visit) -> Answer:
        catch_up = self._store.get(Schedule, visit.name).catch_up
        self._services.schedules.resume_schedule(ResumeScheduleRequest(name=visit.name, catch_up=catch_up))
        return _back(visit)

    def _run_now(self, visit: Visit) -> Answer:
        asked = self._store.get(Schedule, visit.name).create_pipeline_job_request
        request = CreatePipelineJobRequest(parent=names.location_parent(visit.name), pipeline_job=asked.pipeline_job)
        job = self._services.pipelines.accept(request, schedule=visit.name)
        self._services.pipelines.start(job)
        return Redirect(address(str(job.name)))


def _back(visit: Visit) -> Answer:
    return Redirect(address("schedules" if visit.form.get("list") else visit.name))


def shown(schedule: Schedule) -> dict[str, Any]:
    """A schedule as lists show it."""
    most = int(schedule.max_run_count)
    started = int(schedule.started_run_count)
    return {
        "name": str(schedule.name),
        "display_name": str(schedule.display_name) or names.id_of(schedule.name),
        "state": state_name(Schedule.State, int(schedule.state)),
        "cron": str(schedule.cron),
        "next": seconds(schedule, "next_run_time") if schedule.state == Schedule.State.ACTIVE else 0.0,
        "ends": seconds(schedule, "end_time"),
        "runs": f"{started} of {most}" if most else str(started),
    }
