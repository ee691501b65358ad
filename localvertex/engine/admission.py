"""Admission: what is wrong with a pipeline job is said when it is submitted, as strictly as Vertex AI says it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import PipelineJob
from google.protobuf import json_format

from localvertex.engine import conditions, placeholders
from localvertex.engine.spec import Component, Container, Interface, Pipeline, SpecProblem, read
from localvertex.engine.values import ValueProblem, text_of, typed

# https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.pipelineJobs/create
JOB_ID = re.compile(r"[a-z][-a-z0-9]{0,127}")
_LONGEST_DISPLAY_NAME = 128
# https://cloud.google.com/vertex-ai/docs/general/labels
_LABEL_KEY = re.compile(r"[a-z][-_a-z0-9]{0,62}")
_LABEL_VALUE = re.compile(r"[-_a-z0-9]{0,63}")
_MOST_LABELS = 64
_BUCKET_PATH = re.compile(r"gs://[a-z0-9][-_.a-z0-9]{1,220}[a-z0-9](/.*)?")


def admit(job: PipelineJob) -> Pipeline:
    """The pipeline of a job that can be run.

    Raises:
        google.api_core.exceptions.InvalidArgument: what is wrong, and where.
    """
    _check_names(job)
    try:
        pipeline = read(json_format.MessageToDict(PipelineJob.pb(job).pipeline_spec))
        _check_expressions(pipeline)
        _check_executors(pipeline)
        _check_root(pipeline)
        _check_parameters(pipeline.root.inputs, parameter_values(job))
    except SpecProblem as problem:
        raise exceptions.InvalidArgument(str(problem)) from None
    if not _BUCKET_PATH.fullmatch(job.runtime_config.gcs_output_directory):
        raise exceptions.InvalidArgument(
            f"runtime_config.gcs_output_directory: '{job.runtime_config.gcs_output_directory}' is not a Cloud Storage "
            "path; it must be of the form gs://bucket or gs://bucket/path."
        )
    if job.runtime_config.input_artifacts:
        raise exceptions.InvalidArgument(
            "runtime_config.input_artifacts: pipelines with artifact inputs are not supported."
        )
    return pipeline


def check_job_id(job_id: str, pipeline: str) -> None:
    """Make sure that an id can name a job of a pipeline, and the lineage context of its run.

    Raises:
        google.api_core.exceptions.InvalidArgument: it cannot.
    """
    if not JOB_ID.fullmatch(job_id):
        raise exceptions.InvalidArgument(
            f'pipeline_job_id: "{job_id}" is not a valid ID; expecting an ID following the regex pattern '
            f'"{JOB_ID.pattern}".'
        )
    if job_id == pipeline:
        raise exceptions.InvalidArgument(
            f'pipeline_job_id: "{job_id}" is the pipeline\'s own name, under which its metadata context is kept.'
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


def _check_names(job: PipelineJob) -> None:
    if len(job.display_name) > _LONGEST_DISPLAY_NAME:
        raise exceptions.InvalidArgument(f"display_name: longer than {_LONGEST_DISPLAY_NAME} characters.")
    if len(job.labels) > _MOST_LABELS:
        raise exceptions.InvalidArgument(f"labels: more than {_MOST_LABELS} labels.")
    for key, value in job.labels.items():
        if not (_LABEL_KEY.fullmatch(key) and _LABEL_VALUE.fullmatch(value)):
            raise exceptions.InvalidArgument(
                f"labels: '{key}: {value}' is not valid; keys and values are at most 63 lowercase letters, digits, "
                "dashes and underscores, and keys start with a letter."
            )


def _check_parameters(declared: Interface, given: Mapping[str, Any]) -> None:
    for name, value in given.items():
        if name not in declared.parameters:
            raise SpecProblem(f"The pipeline parameter {name} is not found in the pipeline job input definitions.")
        kind = declared.parameters[name].kind
        try:
            # Texts with JSON in them are taken where tasks pass values on, not from users.
            if kind in ("LIST", "STRUCT") and isinstance(value, str):
                raise ValueProblem(f"expected {kind}, got STRING {value[:80]!r}")
            typed(value, kind)
        except ValueProblem as problem:
            raise SpecProblem(f"The pipeline parameter {name} has the wrong type: {problem}.") from None
    for name, parameter in declared.parameters.items():
        if given.get(name) is None and not parameter.optional:
            raise SpecProblem(f"The pipeline parameter {name} is required, and has neither a value nor a default.")


def _check_root(pipeline: Pipeline) -> None:
    for name, artifact in pipeline.root.inputs.artifacts.items():
        if not artifact.optional:
            where = f"root.inputDefinitions.artifacts.{name}"
            raise SpecProblem(f"{where}: pipelines with artifact inputs are not supported.")


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
