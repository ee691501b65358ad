"""Admission: what is wrong with a pipeline job is said when it is submitted, as strictly as Vertex AI says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import PipelineJob
from google.protobuf import json_format

from localvertex import labels, machines
from localvertex.engine import conditions, placeholders
from localvertex.engine.spec import Component, Container, Dag, Interface, Pipeline, SpecProblem, Task, read
from localvertex.engine.values import ValueProblem, text_of, typed

# https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.pipelineJobs/create
JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")
# https://kubeflow-pipelines.readthedocs.io/en/stable/source/dsl.html#kfp.dsl.pipeline
_PIPELINE_NAME = re.compile(r"[a-z0-9][-a-z0-9]{0,127}")
# https://cloud.google.com/storage/docs/buckets#naming
_BUCKET_NAME = r"[a-z0-9](-*[_a-z0-9]){0,62}"
_BUCKET_PATH = re.compile(rf"gs://(?=[^/]{{3,222}}(/|$)){_BUCKET_NAME}(\.{_BUCKET_NAME})*(/.*)?")


def admit(job: PipelineJob) -> Pipeline:
    """The pipeline of a job that can be run.

    Raises:
        google.api_core.exceptions.InvalidArgument: what is wrong, and where.
    """
    labels.check(job, "pipeline_job")
    text = json_format.MessageToDict(PipelineJob.pb(job).pipeline_spec)
    try:
        pipeline = _checked(text)
        _check_parameters(pipeline.root.inputs, parameter_values(job))
        _check_input_artifacts(pipeline.root.inputs, job.runtime_config.input_artifacts)
    except SpecProblem as problem:
        raise exceptions.InvalidArgument(str(problem)) from None
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise exceptions.InvalidArgument(f"pipeline_spec is not a PipelineSpec: {_malformed(text, error)}.") from error
    if not _BUCKET_PATH.fullmatch(job.runtime_config.gcs_output_directory):
        raise exceptions.InvalidArgument(
            f"runtime_config.gcs_output_directory: '{job.runtime_config.gcs_output_directory}' is not a Cloud Storage "
            "path; it must be of the form gs://bucket or gs://bucket/path."
        )
    return pipeline


def check_job_id(job_id: str) -> None:
    """Make sure that an id can name a job.

    Raises:
        google.api_core.exceptions.InvalidArgument: it cannot.
    """
    if not JOB_ID.fullmatch(job_id):
        raise exceptions.InvalidArgument(
            f'pipeline_job_id: "{job_id}" is not a valid ID; expecting an ID following the regex pattern '
            f'"{JOB_ID.pattern}".'
        )


def parameter_values(job: PipelineJob) -> dict[str, Any]:
    """The parameter values a job is given, by name."""
    config = PipelineJob.pb(job).runtime_config
    values = {name: json_format.MessageToDict(value) for name, value in config.parameter_values.items()}
    for name, value in config.parameters.items():
        kind = value.WhichOneof("value")
        if kind:
            values.setdefault(name, getattr(value, kind))
    return values


def _checked(text: Mapping[str, Any]) -> Pipeline:
    pipeline = read(text)
    _check_pipeline_name(pipeline)
    _check_task_names(pipeline)
    _check_bindings(pipeline)
    _check_expressions(pipeline)
    _check_executors(pipeline)
    _check_resources(text)
    return pipeline


def _malformed(text: dict[str, Any], error: Exception) -> str:
    # Slow to import, and needed for nothing but to say which field is of the wrong type.
    from kfp.pipeline_spec import pipeline_spec_pb2 as schema

    try:
        json_format.ParseDict(text, schema.PipelineSpec())
        json_format.ParseDict(text.get("deploymentSpec", {}), schema.PipelineDeploymentConfig())
    except (json_format.ParseError, TypeError) as problem:
        return str(problem).rstrip(".")
    return f"field {error} is missing" if isinstance(error, KeyError) else str(error)


def _check_parameters(declared: Interface, given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name not in declared.parameters:
            raise SpecProblem(f"The pipeline parameter {name} is not found in the pipeline job input definitions.")
        kind = declared.parameters[name].kind
        try:
            # Texts with JSON in them are taken where tasks pass values on, not from users.
            if kind in ("LIST", "STRUCT") and isinstance(value, str):
                raise ValueProblem(f"expected {kind}, got STRING {value[:80]!r}")
            found = typed(value, kind)
        except ValueProblem as problem:
            raise SpecProblem(f"The pipeline parameter {name} has the wrong type: {problem}.") from None
        allowed = declared.parameters[name].literals
        if allowed and found is not None and found not in allowed:
            listed = ", ".join(map(text_of, allowed))
            raise SpecProblem(f"The pipeline parameter {name} is {text_of(found)}, but must be one of: {listed}.")
    for name, parameter in declared.parameters.items():
        if given.get(name) is None and not parameter.optional:
            raise SpecProblem(f"The pipeline parameter {name} is required, and has neither a value nor a default.")


def _check_pipeline_name(pipeline: Pipeline) -> None:
    if not _PIPELINE_NAME.fullmatch(pipeline.name):
        raise SpecProblem(
            f'pipeline_spec.pipelineInfo.name: "{pipeline.name}" is not a valid name; expecting a name following the '
            f'regex pattern "{_PIPELINE_NAME.pattern}".'
        )


def _check_task_names(pipeline: Pipeline) -> None:
    """A task is found by its path, which is made of names and slashes."""
    for component in (pipeline.root, *pipeline.components.values()):
        for name in component.dag.tasks if component.dag else ():
            if not name or "/" in name:
                where = "root" if component is pipeline.root else f"components.{component.name}"
                raise SpecProblem(f"{where}.dag.tasks: '{name}' cannot name a task; give it a name without a slash.")


def _check_bindings(pipeline: Pipeline) -> None:
    """What a task reads must be there, and what its component needs must be given.

    Source: https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto
    """
    _Bindings(pipeline, pipeline.root, "root", frozenset(), frozenset()).check()


class _Bindings:
    """The wiring of one DAG.

    Args:
        pipeline: the DAG's.
        component: whose DAG it is.
        where: its place in the pipeline.
        parameters: names of the input parameters that the DAGs around it have. kfp 2.17 hands on too few of them to a
            loop in a loop, which reads them all the same.
        artifacts: the same for input artifacts.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        component: Component,
        where: str,
        parameters: frozenset[str],
        artifacts: frozenset[str],
    ) -> None:
        assert component.dag is not None
        self._pipeline = pipeline
        self._dag: Dag = component.dag
        self._where = f"{where}.dag"
        self._parameters = parameters | component.inputs.parameters.keys()
        self._artifacts = artifacts | component.inputs.artifacts.keys()

    def check(self) -> None:
        """Raises SpecProblem for the first thing that is wrong in the DAG or in one inside it."""
        for task in self._dag.tasks.values():
            where = f"{self._where}.tasks.{task.name}"
            component = self._pipeline.components[task.component]
            self._check_upstream(task, where)
            _check_policies(task, component, where)
            if component.dag is None:
                # The compiler gives DAGs inputs that are not there and that nothing in them reads.
                self._check_surroundings(task, where)
                _check_required(task, component.inputs, where)
            else:
                _Bindings(
                    self._pipeline, component, f"components.{component.name}", self._parameters, self._artifacts
                ).check()
        for kind, outputs in (("parameter", self._dag.parameters), ("artifact", self._dag.artifacts)):
            for name, choices in outputs.items():
                for producer, key in choices:
                    self._check_output(producer, key, kind, f"{self._where}.outputs.{kind}s.{name}")

    def _check_upstream(self, task: Task, where: str) -> None:
        for kind, inputs in (("parameter", task.parameters), ("artifact", task.artifacts)):
            for name, source in inputs.items():
                if source.kind == "task":
                    self._check_output(source.task, source.key, kind, f"{where}.inputs.{kind}s.{name}")

    def _check_surroundings(self, task: Task, where: str) -> None:
        for kind, inputs, visible in (
            ("parameter", task.parameters, self._parameters),
            ("artifact", task.artifacts, self._artifacts),
        ):
            for name, source in inputs.items():
                if source.kind == "component" and source.key not in visible:
                    raise SpecProblem(
                        f"{where}.inputs.{kind}s.{name}: there is no input {kind} '{source.key}' around the task."
                    )

    def _check_output(self, producer: str, key: str, kind: str, where: str) -> None:
        if producer not in self._dag.tasks:
            raise SpecProblem(f"{where}: there is no task '{producer}' in the DAG.")
        made = self._pipeline.components[self._dag.tasks[producer].component].outputs
        if key not in (made.parameters if kind == "parameter" else made.artifacts):
            raise SpecProblem(f"{where}: task '{producer}' has no output {kind} '{key}'.")


def _check_required(task: Task, declared: Interface, where: str) -> None:
    item = task.iterator.item if task.iterator else ""
    for kind, inputs, given in (
        ("parameter", declared.parameters, task.parameters),
        ("artifact", declared.artifacts, task.artifacts),
    ):
        for name, entry in inputs.items():
            if name not in given and name != item and not entry.optional:
                raise SpecProblem(f"{where}.inputs.{kind}s: the required input {kind} '{name}' is not given.")


def _check_policies(task: Task, component: Component, where: str) -> None:
    # https://cloud.google.com/vertex-ai/docs/pipelines/configure-retries
    retry = task.retry
    for name, value in (
        ("maxRetryCount", retry.count),
        ("backoffDuration", retry.backoff),
        ("backoffFactor", retry.factor),
    ):
        if value < 0:
            raise SpecProblem(f"{where}.retryPolicy.{name}: {value:g} is negative.")
    iterator = task.iterator
    if iterator is None:
        return
    if iterator.limit < 0:
        raise SpecProblem(f"{where}.iteratorPolicy.parallelismLimit: {iterator.limit} is negative.")
    inputs = component.inputs.parameters if iterator.over == "parameter" else component.inputs.artifacts
    for name in filter(None, (iterator.item, iterator.source)):
        if name not in inputs:
            raise SpecProblem(f"{where}.{iterator.over}Iterator: component '{component.name}' has no input '{name}'.")


def _check_resources(text: Mapping[str, Any]) -> None:
    """Machines are noted, not provided; but those that there are not are refused as Vertex AI does.

    Source: https://cloud.google.com/vertex-ai/docs/pipelines/machine-types
    """
    for label, executor in text.get("deploymentSpec", {}).get("executors", {}).items():
        resources = executor.get("container", {}).get("resources", {})
        accelerator = resources.get("accelerator", {})
        kind = str(accelerator.get("resourceType") or accelerator.get("type") or "")
        count = str(accelerator.get("resourceCount") or accelerator.get("count") or 0)
        if "{{$" not in kind + count:  # else known when the task runs
            where = f"deploymentSpec.executors.{label}.container.resources"
            cpus, memory = float(resources.get("cpuLimit", 0)), float(resources.get("memoryLimit", 0))
            if "/" in kind:  # named as Kubernetes names it, such as nvidia.com/gpu: noted, like any other
                kind = ""
            machines.check_resources(kind, int(float(count)), cpus, memory, where)


def _check_input_artifacts(declared: Interface, given: Mapping[str, Any]) -> None:
    for name, artifact in given.items():
        if name not in declared.artifacts:
            raise SpecProblem(f"The pipeline input artifact {name} is not found in the pipeline job input definitions.")
        if not artifact.artifact_id:
            raise SpecProblem(f"runtime_config.input_artifacts.{name}: artifact_id is missing.")
    for name, entry in declared.artifacts.items():
        if name not in given and not entry.optional:
            raise SpecProblem(f"The pipeline input artifact {name} is required, and none is given.")


def _check_expressions(pipeline: Pipeline) -> None:
    for component in (pipeline.root, *pipeline.components.values()):
        for task in component.dag.tasks.values() if component.dag else ():
            where = f"{component.name}.dag.tasks.{task.name}"
            selectors = [source.selector for source in task.parameters.values() if source.selector]
            try:
                for expression in (*filter(None, [task.condition]), *selectors):
                    conditions.check(expression)
            except conditions.ExpressionProblem as problem:
                raise SpecProblem(f"{where}: {problem}.") from None


def _check_executors(pipeline: Pipeline) -> None:
    for component in pipeline.components.values():
        executor = pipeline.executors.get(component.executor)
        if isinstance(executor, Container):
            where = f"deploymentSpec.executors.{component.executor}.container"
            if not executor.image:
                raise SpecProblem(f"{where}.image: the container has no image.")
            if not executor.command:
                raise SpecProblem(
                    f"{where}.command: the container has no command, and what the image {executor.image} would run is "
                    "not known without Docker."
                )
            _check_placeholders(component, executor, where)


def _check_placeholders(component: Component, container: Container, where: str) -> None:
    defaults = [text_of(item.default) for item in component.inputs.parameters.values() if item.default is not None]
    words = (*container.command, *container.args, *container.env.values(), *defaults)
    for placeholder in sorted({found for word in words for found in placeholders.unknown(word, component.outputs)}):
        raise SpecProblem(f"{where}: the placeholder {placeholder} is not supported.")
