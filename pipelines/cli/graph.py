"""What a compiled pipeline says about its tasks, and what a run says about them."""

from __future__ import annotations

import dataclasses
import datetime
import graphlib
from collections.abc import Iterator, Mapping
from typing import Any

WAITING = "PENDING"
NOT_TRIGGERED = "NOT_TRIGGERED"
CACHED = "SKIPPED"
"""Vertex's state of a task whose outputs came from the cache."""

FINAL = {"PIPELINE_STATE_SUCCEEDED", "PIPELINE_STATE_FAILED", "PIPELINE_STATE_CANCELLED"}
DONE = "PIPELINE_STATE_SUCCEEDED"


@dataclasses.dataclass(frozen=True)
class Task:
    """A task of a run at one moment.

    Attributes:
        name: its display name in the pipeline, such as `train`.
        state: Vertex's `PipelineTaskDetail.State`.
        seconds: since it was started, or how long it took; 0 before that.
        error: why it failed; empty if it did not.
        outputs: output artifacts by name, as the service describes them.
    """

    name: str
    state: str = WAITING
    seconds: float = 0.0
    error: str = ""
    outputs: Mapping[str, list[dict[str, Any]]] = dataclasses.field(default_factory=dict)

    @property
    def cached(self) -> bool:
        """Whether its outputs came from the cache."""
        return self.state == CACHED


def names(spec: Mapping[str, Any]) -> dict[str, str]:
    """Display names of tasks by their paths, such as `exit-handler-1.train`, each after those it depends on.

    What is in an exit handler, a nested pipeline or a condition is told task by task; a loop is one task. Of several of
    one name, the later ones have the name of what they are in before theirs.
    """
    found: dict[str, str] = {}
    for path, label in _walk(spec, spec["root"]["dag"]["tasks"], ()):
        taken = label in found.values()
        found[".".join(path)] = f"{path[-2]} {label}" if taken and len(path) > 1 else label
    return found


def _walk(
    spec: Mapping[str, Any], tasks: Mapping[str, Mapping[str, Any]], within: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], str]]:
    order = graphlib.TopologicalSorter({key: sorted(tasks[key].get("dependentTasks", [])) for key in sorted(tasks)})
    for key in order.static_order():
        task = tasks[key]
        inner = spec.get("components", {}).get(task.get("componentRef", {}).get("name", ""), {}).get("dag")
        is_loop = {"parameterIterator", "artifactIterator"} & task.keys()
        if inner and not is_loop:
            yield from _walk(spec, inner["tasks"], (*within, key))
        else:
            yield (*within, key), task.get("taskInfo", {}).get("name", key)


def keys(spec: Mapping[str, Any]) -> dict[str, str]:
    """Paths of tasks by their display names."""
    return {label: key for key, label in names(spec).items()}


def tasks(spec: Mapping[str, Any], job: Mapping[str, Any]) -> list[Task]:
    """The tasks of a run in the order of the graph; those that the run has not come to yet are waiting.

    What is in a condition that did not come true is as little triggered as the condition.

    Args:
        spec: the compiled pipeline.
        job: the PipelineJob resource.
    """
    labels = names(spec)
    found = {label: Task(label) for label in labels.values()}
    details = job.get("jobDetail", {}).get("taskDetails", [])
    inside: dict[str, list[Mapping[str, Any]]] = {}
    for detail in details:
        if "parentTaskId" in detail:
            inside.setdefault(detail["parentTaskId"], []).append(detail)
    known = {detail["taskId"]: detail for detail in details if "taskId" in detail}
    for detail in details:
        path = _path(detail, known)
        if path in labels:
            found[labels[path]] = _task(labels[path], detail, cached=_is_cached(detail, inside))
        elif detail.get("state") == NOT_TRIGGERED:
            for inner, label in labels.items():
                if inner.startswith(f"{path}."):
                    found[label] = Task(label, NOT_TRIGGERED)
    return list(found.values())


def _path(detail: Mapping[str, Any], known: Mapping[str, Mapping[str, Any]]) -> str:
    """A task's place in the run; the run itself, which has no parent, is no part of it."""
    names = [str(detail.get("taskName", ""))]
    while (detail := known.get(detail.get("parentTaskId", ""), {})) and "parentTaskId" in detail:
        names.insert(0, str(detail["taskName"]))
    return ".".join(names)


def _is_cached(detail: Mapping[str, Any], inside: Mapping[str, list[Mapping[str, Any]]]) -> bool:
    """Whether a task came from the cache; of a loop, whether all in it did: Vertex says no more than that it ran."""
    children = inside[detail["taskId"]] if detail.get("taskId") in inside else []
    if children and detail.get("state") == "SUCCEEDED":
        return all(_is_cached(child, inside) for child in children)
    return bool(detail.get("state") == CACHED)


def artifacts(tasks: list[Task], output: str, schema: str) -> Iterator[dict[str, Any]]:
    """Output artifacts by the output's name (any if empty) and their schema's title."""
    for task in tasks:
        for name, found in task.outputs.items():
            if output in ("", name):
                yield from (artifact for artifact in found if artifact.get("schemaTitle") == schema)


def _task(name: str, detail: Mapping[str, Any], cached: bool) -> Task:
    outputs = {key: entry.get("artifacts", []) for key, entry in detail.get("outputs", {}).items()}
    return Task(
        name=name,
        state=CACHED if cached else detail.get("state", WAITING),
        seconds=elapsed(detail),
        error=" ".join(detail.get("error", {}).get("message", "").split()),
        outputs=outputs,
    )


def elapsed(resource: Mapping[str, Any]) -> float:
    """Seconds from a resource's start to its end, or to now while it has none; 0 before its start."""
    if not resource.get("startTime"):
        return 0.0
    end = resource.get("endTime")
    until = _time(end) if end else datetime.datetime.now(datetime.UTC)
    return max(0.0, (until - _time(resource["startTime"])).total_seconds())


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
