"""Home: what there is, what is under way, and what to do when there is nothing yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.cloud.aiplatform_v1.types import (
    BatchPredictionJob,
    CustomJob,
    Endpoint,
    HyperparameterTuningJob,
    JobState,
    PipelineJob,
    Schedule,
)

from localvertex import names
from localvertex.console import queries
from localvertex.console.disk import DiskUse
from localvertex.console.pages.runs import listed
from localvertex.console.pages.schedules import shown
from localvertex.console.queries import state_name
from localvertex.console.services import ConsoleServices
from localvertex.console.web import Answer, Page, Route, Visit
from localvertex.engine.runs import UNFINISHED
from localvertex.store import resources

_LATEST = 10
_MOST = 8
_JOBS: tuple[tuple[Any, str], ...] = (
    (CustomJob, "custom job"),
    (HyperparameterTuningJob, "tuning job"),
    (BatchPredictionJob, "batch prediction"),
)
_AT_WORK = (JobState.JOB_STATE_QUEUED, JobState.JOB_STATE_PENDING, JobState.JOB_STATE_RUNNING)


class HomePage:
    """The page.

    Args:
        services: what it tells of.
    """

    def __init__(self, services: ConsoleServices) -> None:
        self._store = services.store
        self._traffic = services.prediction.traffic
        self._disk = DiskUse(services.home)

    def routes(self) -> Sequence[Route]:
        """Its address."""
        return (Route("GET", "", self._home),)

    def _home(self, visit: Visit) -> Answer:
        values = {
            "pipelines": self._pipelines(),
            "working": self._working(),
            "schedules": [shown(each) for each in self._store.select(Schedule, limit=_MOST)],
            "endpoints": [self._endpoint(each) for each in self._store.select(Endpoint, limit=_MOST)],
            "disk": self._disk.sizes(),
        }
        return Page("home.html", "Home", values, live=("working", "pipelines", "services", "disk"))

    def _pipelines(self) -> list[dict[str, Any]]:
        pipelines = queries.pipelines(self._store)
        latest = queries.newest_of_each(self._store, "pipeline_name", [each.name for each in pipelines], _LATEST)
        return [
            {"name": each.name, "count": each.runs, "latest": [listed(run) for run in latest[each.name]]}
            for each in pipelines
        ]

    def _working(self) -> list[dict[str, Any]]:
        running = resources.c.state.in_([int(state) for state in UNFINISHED])
        found = [{**listed(run), "kind": "run"} for run in queries.newest(self._store, PipelineJob, _MOST, 0, running)]
        at_work = resources.c.state.in_([int(state) for state in _AT_WORK])
        for kind, label in _JOBS:
            for job in queries.newest(self._store, kind, _MOST, 0, at_work):
                state = state_name(JobState, job.state)
                found.append({**listed(job), "state": state, "id": job.display_name, "kind": label})
        return found

    def _endpoint(self, endpoint: Endpoint) -> dict[str, Any]:
        shares = dict(endpoint.traffic_split)
        figures = [self._traffic.of(str(endpoint.name), deployed.id) for deployed in endpoint.deployed_models]
        return {
            "name": str(endpoint.name),
            "display_name": str(endpoint.display_name) or names.id_of(endpoint.name),
            "models": [
                (f"{deployed.display_name}, version {deployed.model_version_id}", shares.get(deployed.id, 0))
                for deployed in endpoint.deployed_models
            ],
            "requests": sum(each.requests for each in figures),
            "errors": sum(sum(each.errors.values()) for each in figures),
        }
