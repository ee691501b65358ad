"""Runs: all of them, one of them, and what can be done with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import (
    CancelPipelineJobRequest,
    CreatePipelineJobRequest,
    PipelineJob,
    PipelineState,
)
from google.protobuf import json_format
from markupsafe import Markup
from starlette.responses import Response

from localvertex import names
from localvertex.console import queries
from localvertex.console.again import repeated
from localvertex.console.layout import Layout, layered
from localvertex.console.outline import Item, Texts, critical_path, drawn, outline, unfolded
from localvertex.console.queries import Summary, state_name
from localvertex.console.services import ConsoleServices
from localvertex.console.tasks import Tasks, text_of
from localvertex.console.web import Answer, Page, Redirect, Route, Visit, address
from localvertex.engine.journal import Record
from localvertex.engine.runs import UNFINISHED
from localvertex.engine.spec import Pipeline
from localvertex.engine.values import Outputs, whole_numbers

RUN = "projects/{project}/locations/{location}/pipelineJobs/{id}"
METRICS = ("system.Metrics", "system.ClassificationMetrics", "google.ClassificationMetrics", "google.RegressionMetrics")

_VIEWS = (("", "Graph"), ("timeline", "Timeline"), ("parameters", "Parameters"), ("metrics", "Metrics"))
_MOST_ROWS = 2000
_SCALES, _STEP = (20, 160), 20
_ROOM = 1060.0


@dataclass(frozen=True)
class Row:
    """A line of the timeline.

    Args:
        item: the task.
        depth: in how many groups it is.
        critical: the run's end waited for it.
        left: where its bar begins, in thousandths of the run.
        width: how long its bar is.
        seconds: how long it took; None for not begun.
    """

    item: Item
    depth: int
    critical: bool
    left: int
    width: int
    seconds: float | None


@dataclass(frozen=True)
class Metric:
    """A number that a task has told.

    Args:
        task: path of the task.
        output: which of its outputs.
        artifact: resource name of the artifact.
        name: of the metric.
        value: its value.
    """

    task: str
    output: str
    artifact: str
    name: str
    value: Any


class Runs:
    """The pages of runs.

    Args:
        services: of runs.
    """

    def __init__(self, services: ConsoleServices) -> None:
        self._services = services
        self._store = services.store
        self._tasks = Tasks(services)
        self._texts = Texts()

    def routes(self) -> Sequence[Route]:
        """Their addresses."""
        return (
            Route("GET", "runs", self._list),
            Route("GET", f"{RUN}/log/{{task:path}}", self._whole_log),
            Route("POST", f"{RUN}:cancel", self._cancel),
            Route("POST", f"{RUN}:again", self._again),
            Route("GET", RUN, self._run),
        )

    def _list(self, visit: Visit) -> Answer:
        before = visit.query.get("before", "")
        last = int(before) if before.isascii() and before.isdigit() else 0
        pipeline = visit.query.get("pipeline", "")
        if pipeline:
            found = queries.newest_of(self._store, "pipeline_name", pipeline, queries.PAGE + 1, last)
        else:
            found = queries.newest(self._store, PipelineJob, queries.PAGE + 1, last)
        runs, older = queries.page_of(found)
        shown = [listed(run) for run in runs]
        values = {
            "pipeline": pipeline,
            "pipelines": [each.name for each in queries.pipelines(self._store, 100)],
            "runs": shown,
            "newest": visit.address(before=None) if last else "",
            "older": visit.address(before=older) if older else "",
        }
        ended = not any(run["state"] in ("PENDING", "RUNNING", "CANCELLING") for run in shown)
        return Page("runs.html", f"Runs of {pipeline}" if pipeline else "Runs", values, live=("runs",), ended=ended)

    def _run(self, visit: Visit) -> Answer:
        job = self._store.get(PipelineJob, visit.name)
        records = self._services.engine.journal.of(visit.name)
        ended = job.state not in UNFINISHED
        pipeline = self._texts.of(job)
        root = outline(pipeline, records, ended=ended)
        view = visit.query.get("view", "")
        path = visit.query.get("task", "")
        values: dict[str, Any] = {
            "section": "runs",
            "run": job,
            "summary": listed(queries.summary_of(job)),
            "pipeline": pipeline.name,
            "error": str(job.error.message),
            "failed": [item for item in root.walk() if item.leaf and item.state == "FAILED"],
            "counts": _counts(root),
            "view": view,
            "views": [(visit.address(view=key or None), label, key == view) for key, label in _VIEWS],
            "ended": ended,
            **self._view(visit, view, job, pipeline, root, records),
            "task": self._task(visit, job, pipeline, records, root, path) if path else None,
        }
        return Page("run.html", values["summary"]["id"], values, live=("summary", "content", "panel"), ended=ended)

    def _view(
        self, visit: Visit, view: str, job: PipelineJob, pipeline: Pipeline, root: Item, records: Mapping[str, Record]
    ) -> dict[str, Any]:
        match view:
            case "timeline":
                return {"rows": list(timeline(root)), "begun": root.started, "most": _MOST_ROWS}
            case "parameters":
                return {"parameters": parameters_of(job), "facts": _facts(job)}
            case "metrics":
                return {"metrics": list(metrics_of(records))}
        return {"graph": graph_of(visit, root)}

    def _task(
        self,
        visit: Visit,
        job: PipelineJob,
        pipeline: Pipeline,
        records: Mapping[str, Record],
        root: Item,
        path: str,
    ) -> dict[str, Any]:
        item = next((each for each in root.walk() if each.path == path and path), None)
        if item is None:
            raise exceptions.NotFound(f"The run has no task '{path}'.")
        record = item.record
        return {
            "item": item,
            "close": visit.address(task=None),
            "attempts": self._tasks.attempts(job, record) if record and item.kind == "task" else [],
            "error": record.error if record else "",
            "inputs": self._tasks.inputs(record) if record else [],
            "outputs": self._tasks.outputs(record) if record else [],
            "why": self._tasks.why(record) if record and (record.started or record.state.final) and item.leaf else None,
            "whole_log": f"{visit.name}/log/{path}",
            "command": self._tasks.command(job, pipeline, record) if record and item.leaf else "",
            "type": f"localvertex logs {names.id_of(job.name)} {path}",
        }

    def _whole_log(self, visit: Visit) -> Answer:
        """All that a task has printed, or one attempt at it."""
        name, path = visit.name.partition("/log/")[0], visit.arguments["task"]
        job = self._store.get(PipelineJob, name)
        record = self._services.engine.journal.of(name).get(path)
        if record is None:
            raise exceptions.NotFound(f"The run has no task '{path}', or has not come to it.")
        attempt = visit.query.get("attempt", "")
        number = int(attempt) if attempt.isascii() and attempt.isdigit() and len(attempt) < 9 else 0
        return Response(self._tasks.log(job, record, number), media_type="text/plain; charset=utf-8")

    def _cancel(self, visit: Visit) -> Answer:
        self._services.pipelines.cancel_pipeline_job(CancelPipelineJobRequest(name=visit.name))
        return Redirect(address(visit.name))

    def _again(self, visit: Visit) -> Answer:
        job = self._store.get(PipelineJob, visit.name)
        again = repeated(job, visit.form.get("task", ""))
        parent = names.location_parent(visit.name)
        made = self._services.pipelines.create_pipeline_job(CreatePipelineJobRequest(parent=parent, pipeline_job=again))
        return Redirect(address(str(made.name)))


def listed(run: Summary) -> dict[str, Any]:
    """A run as lists show it."""
    return {
        "name": run.name,
        "id": names.id_of(run.name),
        "display_name": run.display_name,
        "state": state_name(PipelineState, run.state),
        "created": run.created,
        "started": run.started,
        "seconds": (run.ended or time.time()) - run.started if run.started else None,
    }


def _counts(root: Item) -> list[tuple[str, int]]:
    found: dict[str, int] = {}
    for item in root.leaves:
        found[item.state] = found.get(item.state, 0) + 1
    return sorted(found.items())


def graph_of(visit: Visit, root: Item) -> dict[str, Any]:
    """The graph of a run as `graph.html` draws it; the address says what is folded and how large it is."""
    fold, unfold = visit.query.getlist("fold"), visit.query.getlist("unfold")
    open = unfolded(root, set(fold), set(unfold))
    items, boxes, edges = drawn(root, open)
    layout: Layout = layered(boxes, edges)

    def toggle(path: str) -> str:
        others = [(name, value) for name, value in visit.query.multi_items() if value != path or name == "task"]
        return address(visit.path, **_grouped([*others, ("fold" if path in open else "unfold", path)]))

    shown = [
        {
            "item": items[box.id],
            "area": layout.areas[box.id],
            "open": box.id in open,
            "task": visit.address(task=box.id),
            "toggle": "" if items[box.id].leaf else toggle(box.id),
            "chosen": box.id == visit.query.get("task"),
            "seconds": elapsed(items[box.id]),
        }
        for box in boxes
    ]
    width, height = layout.width + 4, layout.height + 4
    scale = _scale(visit.query.get("scale", ""), width)
    return {
        "boxes": shown,
        "lines": layout.lines,
        "width": width,
        "height": height,
        "scale": scale / 100,
        "smaller": visit.address(scale=str(scale - _STEP)) if scale - _STEP >= _SCALES[0] else "",
        "larger": visit.address(scale=str(scale + _STEP)) if scale + _STEP <= _SCALES[1] else "",
    }


def _scale(asked: str, width: float) -> int:
    """In percent; unless it is asked for, one with which a graph of middling width can be seen whole."""
    if asked.isascii() and asked.isdigit() and len(asked) < 4:
        return max(_SCALES[0], min(_SCALES[1], int(asked)))
    return round(max(65.0, min(100.0, 100 * _ROOM / width)))


def _grouped(pairs: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in pairs:
        found.setdefault(name, []).append(value)
    return found


def elapsed(item: Item) -> float | None:
    """Seconds that an item has taken so far; None for one that has not begun, or had not to."""
    if not item.started or item.state in ("SKIPPED", "NOT_TRIGGERED"):
        return None
    return (item.end or time.time()) - item.started


def timeline(root: Item) -> Iterator[Row]:
    """The Gantt chart of a run, in the order in which its tasks began."""
    critical = critical_path(root)
    begun = root.started or min((item.started for item in root.walk() if item.started), default=time.time())
    whole = max((root.end or time.time()) - begun, 0.001)

    def rows(group: Item, depth: int) -> Iterator[Row]:
        for item in sorted(group.children, key=lambda each: each.started or float("inf")):
            left = 1000 * max(0.0, item.started - begun) / whole if item.started else 0.0
            length = ((item.end or time.time()) - item.started) if item.started else 0.0
            width = max(4.0, 1000 * length / whole) if item.started else 0.0
            yield Row(item, depth, item.path in critical, min(996, int(left)), int(width), elapsed(item))
            yield from rows(item, depth + 1)

    yield from rows(root, 0)


def parameters_of(job: PipelineJob) -> dict[str, str]:
    """The pipeline's parameters with the values that a run had, defaults included, as people read them."""
    spec = json_format.MessageToDict(PipelineJob.pb(job).pipeline_spec)
    declared = spec.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    defaults = {name: entry["defaultValue"] for name, entry in declared.items() if "defaultValue" in entry}
    given = {
        name: json_format.MessageToDict(value)
        for name, value in PipelineJob.pb(job).runtime_config.parameter_values.items()
    }
    return {name: text_of(whole_numbers(value)) for name, value in {**defaults, **given}.items()}


def _facts(job: PipelineJob) -> list[tuple[str, str]]:
    labels = ", ".join(f"{name}={value}" for name, value in sorted(job.labels.items()))
    policy = "fail fast" if "FAST" in job.runtime_config.failure_policy.name else "go on with what can"
    return [
        ("Resource name", str(job.name)),
        ("Display name", str(job.display_name)),
        ("Pipeline root", str(job.runtime_config.gcs_output_directory)),
        ("When a task fails", policy),
        ("Labels", labels or "none"),
        ("Schedule", _link(str(job.schedule_name)) if job.schedule_name else "none"),
    ]


def _link(name: str) -> Markup:
    return Markup('<a href="{}">{}</a>').format(address(name), name)


def metrics_of(records: Mapping[str, Record]) -> Iterator[Metric]:
    """The numbers that the tasks of a run have told as metrics."""
    for path, record in records.items():
        if not record.outputs or not path:
            continue
        for output, artifacts in Outputs.from_json(record.outputs).artifacts.items():
            for artifact in artifacts:
                if artifact.schema_title not in METRICS or record.execution == "":
                    continue
                for name, value in sorted(artifact.metadata.items()):
                    if isinstance(value, int | float | str) and not isinstance(value, bool):
                        yield Metric(path, output, artifact.name, name, value)
