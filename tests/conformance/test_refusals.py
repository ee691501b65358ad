"""Protects honesty: what pipelines can say and the engine does not do is refused at submit, by name and place."""

from typing import Any

import pytest
from google.api_core import exceptions
from kfp import dsl

from tests.conformance.support import Conformance, compiled
from tests.localvertex.engine.pieces import say


@dsl.pipeline(name="inner")
def inner(text: str) -> str:
    return say(text=text).output


@dsl.pipeline(name="outer")
def outer() -> str:
    with dsl.ParallelFor(["a"]) as word:
        inner(text=word)
    return inner(text="x").output


EXECUTOR = "deploymentSpec.executors.exec-say"
RESOLVER = {"outputArtifactQueries": {"x": {"filter": "y"}}}


@pytest.mark.parametrize(
    ("place", "entry", "told"),
    [
        ("", {"schedule": "daily"}, "pipeline_spec: field 'schedule'"),
        (
            "",
            {"platforms": {"kubernetes": {"deploymentSpec": {"executors": {"exec-say": {"secretAsEnv": []}}}}}},
            "platforms.kubernetes.deploymentSpec.executors.exec-say: field 'secretAsEnv'",
        ),
        (
            "",
            {"platforms": {"kubernetes": {"pipelineConfig": {"workspace": {}, "activeDeadlineSeconds": 5}}}},
            "platforms.kubernetes.pipelineConfig: field 'activeDeadlineSeconds'",
        ),
        ("pipelineInfo", {"owner": "me"}, "pipelineInfo: field 'owner'"),
        ("deploymentSpec", {"defaults": {}}, "deploymentSpec: field 'defaults'"),
        (EXECUTOR, {"resolver": RESOLVER}, "exec-say: field 'resolver'"),
        (EXECUTOR, {"customJob": {}}, "exec-say: field 'customJob'"),
        (
            f"{EXECUTOR}.container",
            {"lifecycle": {"preCacheCheck": {"command": ["true"]}}},
            "container: field 'lifecycle'",
        ),
        (f"{EXECUTOR}.container", {"command": []}, "exec-say.container.command: the container has no command"),
        (
            f"{EXECUTOR}.container",
            {"args": ["{{$.outputs.artifacts['x'].uri}}"]},
            r"placeholder \{\{\$.outputs.artifacts",
        ),
        ("components.comp-say", {"singlePlatformSpecs": [{"platform": "kubernetes"}]}, "field 'singlePlatformSpecs'"),
        ("components.comp-say", {"taskConfigPassthroughs": [{"field": 1}]}, "comp-say: field 'taskConfigPassthroughs'"),
        (
            "components.comp-say.inputDefinitions.parameters.text",
            {"parameterType": "TASK_CONFIG"},
            "parameters.text.parameterType: 'TASK_CONFIG' is not supported",
        ),
        ("root.dag.tasks.inner-2", {"retryPolicy": {"maxRetryCount": 1}}, "inner-2.retryPolicy: a nested pipeline"),
        ("root.dag.tasks.inner-2", {"timeout": "5s"}, "tasks.inner-2: field 'timeout'"),
        ("root.dag.tasks.inner-2", {"triggerPolicy": {"strategy": "SOON"}}, "triggerPolicy.strategy: 'SOON'"),
        ("root.dag.tasks.for-loop-2", {"iteratorPolicy": {"order": "any"}}, "iteratorPolicy: field 'order'"),
        ("root.dag.tasks.for-loop-2.parameterIterator", {"from": 1}, "parameterIterator: field 'from'"),
        ("root.dag.tasks.inner-2.taskInfo", {"colour": "red"}, "taskInfo: field 'colour'"),
    ],
)
def test_what_is_not_done_is_refused(run: Conformance, place: str, entry: dict[str, Any], told: str) -> None:
    spec = compiled(outer, run.bench.folder)
    part: Any = spec
    for step in filter(None, place.split(".")):
        part = part[step]
    part.update(entry)
    with pytest.raises(exceptions.InvalidArgument, match=told):
        run.bench.submit(spec)
