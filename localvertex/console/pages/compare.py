"""Compare: several runs side by side: parameters that differ, metrics, reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.cloud.aiplatform_v1.types import PipelineJob

from localvertex import names
from localvertex.console import charts, queries
from localvertex.console.pages.runs import listed, metrics_of, parameters_of
from localvertex.console.services import ConsoleServices
from localvertex.console.web import Answer, Page, Route, Visit, address
from localvertex.engine.journal import Record
from localvertex.engine.values import Outputs

MOST_RUNS = 8

_MOST_PLOTS = 12
_MOST_REPORTS = 4
_REPORT = "system.HTML"


@dataclass(frozen=True)
class Line:
    """One thing that runs are compared by.

    Args:
        name: of the parameter or metric.
        values: of each run; None for a run that has none.
    """

    name: str
    values: Sequence[Any]

    @property
    def differs(self) -> bool:
        """Whether the runs are not all alike in it."""
        return any(value != self.values[0] for value in self.values[1:])


class ComparePage:
    """The page.

    Args:
        services: of runs.
    """

    def __init__(self, services: ConsoleServices) -> None:
        self._services = services
        self._store = services.store

    def routes(self) -> Sequence[Route]:
        """Its address."""
        return (Route("GET", "compare", self._compare),)

    def _compare(self, visit: Visit) -> Answer:
        chosen = list(dict.fromkeys(visit.query.getlist("run")))[:MOST_RUNS]
        jobs = self._store.find_all(PipelineJob, chosen)
        # The oldest first, as time goes from left to right.
        jobs.sort(key=lambda job: int(PipelineJob.pb(job).create_time.ToNanoseconds()))
        records = [self._services.engine.journal.of(str(job.name)) for job in jobs]
        runs = [listed(queries.summary_of(job)) for job in jobs]
        parameters = _lines([parameters_of(job) for job in jobs])
        metrics = _lines([_metrics(found) for found in records])
        everything = visit.query.get("all") == "1"
        values = {
            "section": "runs",
            "runs": [
                {**run, "without": address("compare", run=[name for name in chosen if name != run["name"]])}
                for run in runs
            ],
            "parameters": [line for line in parameters if everything or line.differs],
            "alike": sum(not line.differs for line in parameters),
            "everything": everything,
            "toggle": address("compare", run=chosen, **({} if everything else {"all": "1"})),
            "metrics": metrics,
            "plots": _plots(metrics, runs),
            "reports": [_reports(found) for found in records],
            "chosen": chosen,
            "others": [run for run in self._others(jobs) if run["name"] not in chosen],
            "most": MOST_RUNS,
        }
        return Page("compare.html", "Compare runs", values)

    def _others(self, jobs: Sequence[PipelineJob]) -> list[dict[str, Any]]:
        """Runs that can be added: of the same pipeline, if there is one."""
        if not jobs:
            return [listed(run) for run in queries.newest(self._store, PipelineJob)]
        name = str(PipelineJob.pb(jobs[0]).pipeline_spec["pipelineInfo"]["name"])
        return [listed(run) for run in queries.newest_of(self._store, "pipeline_name", name)]


def _lines(sides: Sequence[Mapping[str, Any]]) -> list[Line]:
    every = sorted({name for side in sides for name in side})
    return [Line(name, [side.get(name) for side in sides]) for name in every]


def _metrics(records: Mapping[str, Record]) -> dict[str, Any]:
    return {f"{metric.task} · {metric.name}": metric.value for metric in metrics_of(records)}


def _plots(metrics: Sequence[Line], runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Of each metric that at least two runs have told: name, and id, value and bar of each run."""
    found = []
    for line in metrics:
        told = [
            (run["id"], float(value))
            for run, value in zip(runs, line.values, strict=True)
            if isinstance(value, int | float)
        ]
        if len(told) > 1:
            most = max(abs(value) for _, value in told) or 1.0
            found.append(
                {"name": line.name, "bars": [(id, value, charts.bar(abs(value) / most)) for id, value in told]}
            )
    return found[:_MOST_PLOTS]


def _reports(records: Mapping[str, Record]) -> list[tuple[str, str]]:
    """Title and address of the HTML reports that a run's tasks have made."""
    found = []
    for path, record in records.items():
        if not (path and record.execution and record.outputs):
            continue
        for output, artifacts in Outputs.from_json(record.outputs).artifacts.items():
            for artifact in artifacts:
                if artifact.schema_title == _REPORT:
                    run = names.id_of(record.job)
                    found.append((f"{path} · {output} of {run}", address(f"{artifact.name}:show")))
    return found[:_MOST_REPORTS]
