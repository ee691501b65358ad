"""Running a run again: as it was, or from one of its tasks on."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import count
from typing import Any

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import PipelineJob
from google.protobuf import json_format

Json = dict[str, Any]

_ITS_OWN = ("name", "create_time", "start_time", "end_time", "update_time", "state", "job_detail", "error")
_AGAIN = "-again-"
_BILLING = "vertex-ai-pipelines-run-billing-id"


def repeated(job: PipelineJob, start: str = "") -> PipelineJob:
    """A job to submit that does again what a job has done.

    Args:
        job: as it is stored.
        start: path of a task; with one, it and whatever depends on it is executed, and the rest is taken from the
            cache where it is there. Without one, caching is as the job had it.

    Raises:
        google.api_core.exceptions.NotFound: the pipeline has no such task.
    """
    again = PipelineJob.pb(PipelineJob())
    again.CopyFrom(PipelineJob.pb(job))
    for field in (*_ITS_OWN, "schedule_name"):
        again.ClearField(field)
    again.labels.pop(_BILLING, None)
    if start:
        spec = executed_from(json_format.MessageToDict(again.pipeline_spec), start)
        again.pipeline_spec.Clear()
        again.pipeline_spec.update(spec)
    job_again: PipelineJob = PipelineJob.wrap(again)
    return job_again


def executed_from(spec: Mapping[str, Any], start: str) -> Json:
    """A PipelineSpec that takes from the cache what does not depend on a task, and executes the rest.

    Args:
        start: path of the task in a run. Iterations of a loop have one text: the task is executed in all of them.
    """
    fresh: Json = copy.deepcopy(dict(spec))
    components = fresh.get("components", {})
    for component in (fresh["root"], *components.values()):
        for task in _tasks(component).values():
            _cache(task, True)
    within = fresh["root"]
    segments = iter(start.split("/"))
    for name in segments:
        tasks = _tasks(within)
        if name not in tasks:
            raise exceptions.NotFound(f"The pipeline has no task '{start}'.")
        for after in _descendants(tasks, name):
            _execute(tasks[after], components)
        task = tasks[name]
        if "parameterIterator" in task or "artifactIterator" in task:
            next(segments, None)  # which iteration
        within = _own(task, components)
    # What the path leads to is executed, whatever it is made of.
    _execute(task, components)
    used = _used(fresh["root"], components)
    fresh["components"] = {label: component for label, component in components.items() if label in used}
    return fresh


def _used(component: Json, components: Json) -> set[str]:
    labels = {str(task["componentRef"]["name"]) for task in _tasks(component).values()}
    return labels.union(*(_used(components[label], components) for label in labels))


def _tasks(component: Mapping[str, Any]) -> Json:
    tasks: Json = component.get("dag", {}).get("tasks", {})
    return tasks


def _cache(task: Json, enabled: bool) -> None:
    options = task.setdefault("cachingOptions", {})
    if enabled:
        options["enableCache"] = True
    else:
        task["cachingOptions"] = {"enableCache": False}


def _execute(task: Json, components: Json) -> None:
    """Turn caching off for a task, and for all that it is made of."""
    _cache(task, False)
    for inner in _tasks(_own(task, components)).values():
        _execute(inner, components)


def _own(task: Json, components: Json) -> Json:
    """The component of a task; a DAG that others may use too becomes one of its own, for it is about to be changed."""
    label = str(task["componentRef"]["name"])
    component: Json = components[label]
    if "dag" not in component:
        return component
    stem = label.partition(_AGAIN)[0]
    fresh = next(name for number in count() if (name := f"{stem}{_AGAIN}{number}") not in components)
    components[fresh] = component = copy.deepcopy(component)
    task["componentRef"]["name"] = fresh
    return component


def _descendants(tasks: Mapping[str, Any], start: str) -> set[str]:
    after: dict[str, set[str]] = {name: set() for name in tasks}
    for name, task in tasks.items():
        for before in _upstream(task):
            after[before].add(name)
    found: set[str] = set()
    waiting = [start]
    while waiting:
        for name in after[waiting.pop()] - found:
            found.add(name)
            waiting.append(name)
    return found


def _upstream(task: Mapping[str, Any]) -> set[str]:
    inputs = task.get("inputs", {})
    found = set(task.get("dependentTasks", ()))
    for kind, source in (("parameters", "taskOutputParameter"), ("artifacts", "taskOutputArtifact")):
        for given in inputs.get(kind, {}).values():
            if source in given:
                found.add(given[source]["producerTask"])
            if "taskFinalStatus" in given:
                found.add(given["taskFinalStatus"]["producerTask"])
    return found
