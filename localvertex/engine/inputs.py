"""A task's inputs, gathered from the tasks before it, the component around it, constants and defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from localvertex.engine import conditions
from localvertex.engine.placeholders import resolve_inputs
from localvertex.engine.spec import Component, Source, Task
from localvertex.engine.values import Inputs, Outputs, State, ValueProblem, typed


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
        if value is not None:
            parameters[name] = _select(name, source, value)
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


def _select(name: str, source: Source, value: Any) -> Any:
    if not source.selector:
        return value
    try:
        return conditions.select(source.selector, value)
    except conditions.ExpressionProblem as problem:
        raise InputProblem(f"input parameter '{name}': {problem}") from None


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
        may_lack.add(task.iterator.item)
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
