"""A task's inputs, gathered from the tasks before it, the component around it, constants and defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import Artifact as ArtifactResource
from google.cloud.aiplatform_v1.types import PipelineJob
from google.protobuf import json_format

from localvertex import names, schemas
from localvertex.engine import conditions
from localvertex.engine.placeholders import resolve_inputs
from localvertex.engine.spec import Component, Interface, Source, Task
from localvertex.engine.values import Artifact, Inputs, Outputs, State, ValueProblem, text_of, typed, whole_numbers
from localvertex.store import Store

ANY_ARTIFACT = "system.Artifact"


class Upstream(Protocol):
    """What is asked of a task that ended."""

    @property
    def state(self) -> State:
        """How it ended."""

    @property
    def outputs(self) -> Outputs:
        """What it made."""


class InputProblem(Exception):
    """An input that is missing or of the wrong type; the message names it."""


def gather(
    task: Task,
    component: Component,
    enclosing: Inputs,
    upstream: Mapping[str, Upstream],
    status: Callable[[str], Mapping[str, Any]],
) -> Inputs:
    """The inputs of a task whose upstream tasks have ended.

    Args:
        task: where its inputs come from.
        component: what it accepts, with defaults.
        enclosing: inputs of the component around it.
        upstream: the tasks of the same DAG by name.
        status: `PipelineTaskFinalStatus` of a task by name.

    Raises:
        InputProblem: a required input has no value, or one of another type.
    """
    parameters: dict[str, Any] = {}
    templates: set[str] = set()
    for name, source in task.parameters.items():
        value = dict(status(source.task)) if source.kind == "status" else _value(source, enclosing, upstream)
        if value is not None and source.selector:
            value = _select(name, source, value, component)
        if value is not None:
            parameters[name] = value
            if source.kind == "constant" or (source.kind == "component" and source.key in enclosing.templates):
                templates.add(name)
    for name, declared in component.inputs.parameters.items():
        if name not in parameters and declared.default is not None:
            parameters[name] = declared.default
            templates.add(name)
    resolved = resolve_inputs(Inputs(parameters, _artifacts(task, enclosing, upstream), frozenset(templates)), {})
    return _checked(resolved, task, component)


def _value(source: Source, enclosing: Inputs, upstream: Mapping[str, Upstream]) -> Any:
    if source.kind == "task":
        return upstream[source.task].outputs.parameters.get(source.key)
    if source.kind == "component":
        return enclosing.parameters.get(source.key)
    return source.constant


def _select(name: str, source: Source, value: Any, component: Component) -> Any:
    try:
        selected = conditions.select(source.selector, value)
    except conditions.ExpressionProblem as problem:
        raise InputProblem(f"input parameter '{name}': {problem}") from None
    # The compiler takes fields of unknown type for texts.
    declared = component.inputs.parameters.get(name)
    is_text = declared is not None and declared.kind == "STRING" and selected is not None
    return text_of(selected) if is_text else selected


def _artifacts(task: Task, enclosing: Inputs, upstream: Mapping[str, Upstream]) -> dict[str, list[Any]]:
    found = {}
    for name, source in task.artifacts.items():
        origin = upstream[source.task].outputs.artifacts if source.kind == "task" else enclosing.artifacts
        if origin.get(source.key) is not None:
            found[name] = origin[source.key]
    return found


def _checked(inputs: Inputs, task: Task, component: Component) -> Inputs:
    parameters = dict(inputs.parameters)
    # The compiler gives DAGs inputs that nothing in them reads; what a task in a DAG does read is checked there.
    may_lack = {*component.inputs.parameters, *component.inputs.artifacts} if component.dag else set()
    if task.iterator:
        may_lack = (may_lack | {task.iterator.item}) - {task.iterator.source}
    for name, declared in component.inputs.parameters.items():
        if name in parameters and name not in inputs.templates:
            try:
                parameters[name] = typed(parameters[name], declared.kind)
            except ValueProblem as problem:
                raise InputProblem(f"input parameter '{name}': {problem}") from None
        elif name not in parameters and not declared.optional and name not in may_lack:
            raise InputProblem(f"input parameter '{name}' has no value")
    for name, artifact in component.inputs.artifacts.items():
        if name not in inputs.artifacts and not artifact.optional and name not in may_lack:
            raise InputProblem(f"input artifact '{name}' has no value")
    return Inputs(parameters, inputs.artifacts, inputs.templates)


def given_artifacts(job: PipelineJob, declared: Interface, store: Store) -> dict[str, Artifact]:
    """The artifacts that a job names as its pipeline's inputs, by name of the input.

    Source: https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.pipelineJobs#InputArtifact

    Args:
        job: accepted, with its name.
        declared: the pipeline's inputs.
        store: where artifacts are.

    Raises:
        google.api_core.exceptions.NotFound: an artifact does not exist.
        google.api_core.exceptions.InvalidArgument: an artifact is of another type than the input.
    """
    found = {}
    folder = schemas.default_store(names.location_parent(job.name))
    for name, given in job.runtime_config.input_artifacts.items():
        resource = store.get(ArtifactResource, f"{folder}/artifacts/{given.artifact_id}")
        title = declared.artifacts[name].schema_title
        if title not in (ANY_ARTIFACT, resource.schema_title):
            raise exceptions.InvalidArgument(
                f"runtime_config.input_artifacts.{name}: expected an artifact of type {title}, got "
                f"{given.artifact_id} of type {resource.schema_title}."
            )
        found[name] = Artifact(
            str(resource.name),
            str(resource.uri),
            str(resource.schema_title),
            str(resource.schema_version),
            whole_numbers(json_format.MessageToDict(ArtifactResource.pb(resource).metadata)),
            str(resource.display_name),
        )
    return found
