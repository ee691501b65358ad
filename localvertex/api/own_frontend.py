"""Calls that Vertex AI does not have, under `/localvertex/v1/`: runs of every project and region, and why tasks ran."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

import proto
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import CustomJob, HyperparameterTuningJob, PipelineJob

from localvertex import names
from localvertex.engine.explain import Explainer
from localvertex.store import Store, resources

PREFIX = "/localvertex/"

_MOST_RUNS = 1000
_ID = r"[a-z0-9][-a-z0-9]*"
_LOCATION = re.compile(r"[a-z0-9-]*")


class OwnFrontend:
    """Answers localvertex's own calls in JSON.

    - `GET runs?limit=20&location=`: pipeline runs, the newest first.
    - `GET runs/ID?location=`: a run; or a job, for those have logs too.
    - `GET runs/ID:explain?task=&location=`: a localvertex.engine.explain.Explanation.

    Without a location, all are looked at; of several of one id, the newest counts.

    Args:
        store: where runs are.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._explainer = Explainer(store)
        self._routes: list[tuple[str, re.Pattern[str], Callable[..., dict[str, Any]]]] = [
            ("GET", re.compile("/localvertex/v1/runs"), self._list),
            ("GET", re.compile(f"/localvertex/v1/runs/({_ID})"), self._get),
            ("GET", re.compile(f"/localvertex/v1/runs/({_ID}):explain"), self._explain),
        ]

    def answer(self, verb: str, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Answer one request.

        Args:
            path: as it was sent, percent-encoded.

        Raises:
            google.api_core.exceptions.GoogleAPICallError: the request's error.
        """
        if not _LOCATION.fullmatch(query.get("location", "")):
            raise exceptions.InvalidArgument("location: not a region.")
        for wanted, pattern, handler in self._routes:
            if wanted == verb and (match := pattern.fullmatch(unquote(path))):
                return handler(*match.groups(), query)
        raise exceptions.NotFound(f"localvertex serves no call at {verb} {unquote(path)}.")

    def _list(self, query: Mapping[str, str]) -> dict[str, Any]:
        limit = query.get("limit", "20")
        if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= _MOST_RUNS):
            raise exceptions.InvalidArgument(f"limit: a whole number from 1 to {_MOST_RUNS}.")
        return {"runs": [_shown(job) for job in self._find(PipelineJob, "%", query, int(limit))]}

    def _get(self, id: str, query: Mapping[str, str]) -> dict[str, Any]:
        for kind in (PipelineJob, CustomJob, HyperparameterTuningJob):
            if found := self._find(kind, id, query, 1):
                return _shown(found[0])
        raise exceptions.NotFound(f"There is no run and no job '{id}'.")

    def _explain(self, id: str, query: Mapping[str, str]) -> dict[str, Any]:
        if not query.get("task"):
            raise exceptions.InvalidArgument("task: name the task to explain.")
        found = self._find(PipelineJob, id, query, 1)
        if not found:
            raise exceptions.NotFound(f"There is no run '{id}'.")
        return self._explainer.explain(str(found[0].name), query["task"]).to_json()

    def _find(self, kind: type[Any], id: str, query: Mapping[str, str], limit: int) -> list[Any]:
        pattern = f"projects/%/locations/{query.get('location') or '%'}/%/{id}"
        return self._store.select(kind, resources.c.name.like(pattern), limit=limit)


def _shown(job: proto.Message) -> dict[str, Any]:
    wire = type(job).pb(job)
    config = getattr(wire, "runtime_config", None)
    return {
        "id": names.id_of(wire.name),
        "name": wire.name,
        "display_name": wire.display_name,
        "location": names.location_of(wire.name),
        "state": job.state.name.rpartition("STATE_")[2],
        "created": wire.create_time.ToJsonString(),
        "root": config.gcs_output_directory if config else "",
    }
