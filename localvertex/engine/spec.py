"""The pipeline's text: PipelineSpec 2.1.0 read strictly into dataclasses, with what is not supported refused by name.

Source: https://github.com/kubeflow/pipelines/blob/master/api/v2alpha1/pipeline_spec.proto
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from localvertex.engine.values import ValueProblem, typed, whole_numbers

Json = Mapping[str, Any]


class SpecProblem(Exception):
    """A pipeline that cannot be run; the message names what is wrong and the place in the pipeline."""


@dataclass(frozen=True)
class ParameterSpec:
    """An input or output parameter of a component.

    Args:
        kind: name of its `ParameterType`.
        optional: whether it may have no value.
        default: None when there is none.
        literals: the values that it may have; empty for any.
    """

    kind: str
    optional: bool = False
    default: Any = None
    literals: tuple[Any, ...] = ()


@dataclass(frozen=True)
class ArtifactSpec:
    """An input or output artifact of a component."""

    schema_title: str
    schema_version: str
    is_list: bool = False
    optional: bool = False
    metadata: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Interface:
    """A component's inputs, or its outputs."""

    parameters: Mapping[str, ParameterSpec]
    artifacts: Mapping[str, ArtifactSpec]


@dataclass(frozen=True)
class Source:
    """Where a task's input comes from.

    Args:
        kind: `task` (output of another task), `component` (input of the enclosing component), `constant`, or `status`
            (how another task ended).
        task: the producing task, for `task` and `status`.
        key: output or input name, for `task` and `component`.
        constant: the value, for `constant`.
        selector: CEL expression applied to the value; empty for none.
    """

    kind: str
    task: str = ""
    key: str = ""
    constant: Any = None
    selector: str = ""


@dataclass(frozen=True)
class Retry:
    """Retry policy of a task; durations in seconds."""

    count: int = 0
    backoff: float = 0.0
    factor: float = 2.0
    longest: float = 3600.0

    def delay(self, attempt: int) -> float:
        """Seconds to wait before a retry; `attempt` 1 is the first retry."""
        return float(min(self.backoff * self.factor ** (attempt - 1), self.longest))


@dataclass(frozen=True)
class Iterator:
    """A fan-out over items.

    Args:
        over: `parameter` or `artifact`.
        item: the input that receives one item.
        source: the input that holds the items; empty when `raw` holds them.
        raw: JSON list.
        limit: how many iterations run at a time; 0 for all.
    """

    over: str
    item: str
    source: str = ""
    raw: str = ""
    limit: int = 0


@dataclass(frozen=True)
class Task:
    """A task of a DAG."""

    name: str
    display_name: str
    component: str
    parameters: Mapping[str, Source]
    artifacts: Mapping[str, Source]
    dependent: tuple[str, ...]
    condition: str
    when_completed: bool
    cache: bool
    cache_key: str
    iterator: Iterator | None
    retry: Retry

    @cached_property
    def upstream(self) -> frozenset[str]:
        """The tasks of the same DAG that must have ended before this one can start."""
        sources = (*self.parameters.values(), *self.artifacts.values())
        return frozenset(self.dependent) | {source.task for source in sources if source.task}


@dataclass(frozen=True)
class Dag:
    """A DAG; each of its outputs is selected from (task, output) pairs."""

    tasks: Mapping[str, Task]
    parameters: Mapping[str, tuple[tuple[str, str], ...]]
    artifacts: Mapping[str, tuple[tuple[str, str], ...]]


@dataclass(frozen=True)
class Component:
    """A component: a DAG, or an executor by its label."""

    name: str
    inputs: Interface
    outputs: Interface
    dag: Dag | None = None
    executor: str = ""


@dataclass(frozen=True)
class Container:
    """A container to run; strings may hold placeholders. Limits are as Kubernetes writes quantities; empty for none."""

    image: str
    command: tuple[str, ...]
    args: tuple[str, ...]
    env: Mapping[str, str]
    cpu_limit: str = ""
    memory_limit: str = ""


@dataclass(frozen=True)
class Importer:
    """An artifact that is already there; its tasks get a copy in the run's workspace if `to_workspace`."""

    uri: Source
    schema_title: str
    schema_version: str
    metadata: Json
    reimport: bool
    to_workspace: bool = False


@dataclass(frozen=True)
class Pipeline:
    """A whole pipeline."""

    name: str
    root: Component
    components: Mapping[str, Component]
    executors: Mapping[str, Container | Importer]


def read(text: Json) -> Pipeline:
    """The pipeline in a PipelineSpec as JSON.

    Raises:
        SpecProblem: something is missing, unknown or not supported.
    """
    known = "pipelineInfo deploymentSpec sdkVersion schemaVersion components root defaultPipelineRoot platforms"
    _only(text, known, "pipeline_spec")
    _check_platforms(text.get("platforms", {}))
    _only(text.get("pipelineInfo", {}), "name displayName description", "pipeline_spec.pipelineInfo")
    _only(text.get("deploymentSpec", {}), "executors", "deploymentSpec")
    version = str(text.get("schemaVersion", ""))
    if not version.startswith("2."):
        raise SpecProblem(f"pipeline_spec.schemaVersion: '{version}' is not supported; compile with kfp 2 (2.1.0).")
    name = text.get("pipelineInfo", {}).get("name", "")
    if not name:
        raise SpecProblem("pipeline_spec.pipelineInfo.name: the pipeline has no name.")
    executors = {
        label: _executor(entry, f"deploymentSpec.executors.{label}")
        for label, entry in text.get("deploymentSpec", {}).get("executors", {}).items()
    }
    components = {
        label: _component(label, entry, f"components.{label}") for label, entry in text.get("components", {}).items()
    }
    if "dag" not in text.get("root", {}):
        raise SpecProblem("pipeline_spec.root: the pipeline has no DAG.")
    pipeline = Pipeline(name, _component("root", text["root"], "root"), components, executors)
    _check_references(pipeline)
    return pipeline


def _check_platforms(platforms: Json) -> None:
    """What the compiler writes for one platform, in a second document, may ask for a workspace: every run has one."""
    for platform, config in platforms.items():
        where = f"platforms.{platform}"
        _only(config, "pipelineConfig deploymentSpec", where)
        _only(config.get("pipelineConfig", {}), "workspace", f"{where}.pipelineConfig")
        deployment = config.get("deploymentSpec", {})
        _only(deployment, "executors", f"{where}.deploymentSpec")
        for label, executor in deployment.get("executors", {}).items():
            _only(executor, "", f"{where}.deploymentSpec.executors.{label}")


def _only(entry: Json, known: str, where: str) -> None:
    for name in sorted(set(entry) - set(known.split())):
        raise SpecProblem(f"{where}: field '{name}' is not supported.")


def _interface(entry: Json, where: str) -> Interface:
    _only(entry, "parameters artifacts", where)
    parameters = {
        name: _parameter(item, f"{where}.parameters.{name}") for name, item in entry.get("parameters", {}).items()
    }
    artifacts = {
        name: _artifact(item, f"{where}.artifacts.{name}") for name, item in entry.get("artifacts", {}).items()
    }
    return Interface(parameters, artifacts)


_OLD_TYPES = {"INT": "NUMBER_INTEGER", "DOUBLE": "NUMBER_DOUBLE", "STRING": "STRING"}
_TYPES = {"", "NUMBER_DOUBLE", "NUMBER_INTEGER", "STRING", "BOOLEAN", "LIST", "STRUCT", "TASK_FINAL_STATUS"}


def _parameter(entry: Json, where: str) -> ParameterSpec:
    _only(entry, "type parameterType defaultValue isOptional description literals", where)
    kind = entry.get("parameterType") or _OLD_TYPES.get(entry.get("type", ""), "")
    if kind not in _TYPES:
        raise SpecProblem(f"{where}.parameterType: '{kind}' is not supported.")
    default = entry.get("defaultValue")
    # A default may be a placeholder, whatever the type.
    if not (isinstance(default, str) and "{{$" in default):
        try:
            default = typed(default, kind)
        except ValueProblem as problem:
            raise SpecProblem(f"{where}.defaultValue: {problem}.") from None
    literals = tuple(whole_numbers(entry.get("literals", [])))
    return ParameterSpec(kind, bool(entry.get("isOptional", False)) or default is not None, default, literals)


def _artifact(entry: Json, where: str) -> ArtifactSpec:
    _only(entry, "artifactType isArtifactList isOptional description metadata", where)
    title, version = _schema(entry.get("artifactType", {}), f"{where}.artifactType")
    return ArtifactSpec(
        title,
        version,
        bool(entry.get("isArtifactList", False)),
        bool(entry.get("isOptional", False)),
        whole_numbers(entry.get("metadata", {})),
    )


def _schema(entry: Json, where: str) -> tuple[str, str]:
    _only(entry, "schemaTitle schemaVersion", where)
    return entry.get("schemaTitle", "system.Artifact"), entry.get("schemaVersion", "0.0.1")


def _component(name: str, entry: Json, where: str) -> Component:
    _only(entry, "inputDefinitions outputDefinitions dag executorLabel", where)
    dag = _dag(entry["dag"], f"{where}.dag") if "dag" in entry else None
    if dag is None and not entry.get("executorLabel"):
        raise SpecProblem(f"{where}: the component has neither a DAG nor an executor.")
    return Component(
        name,
        _interface(entry.get("inputDefinitions", {}), f"{where}.inputDefinitions"),
        _interface(entry.get("outputDefinitions", {}), f"{where}.outputDefinitions"),
        dag,
        entry.get("executorLabel", ""),
    )


def _dag(entry: Json, where: str) -> Dag:
    _only(entry, "tasks outputs", where)
    tasks = {name: _task(name, task, f"{where}.tasks.{name}") for name, task in entry.get("tasks", {}).items()}
    outputs = entry.get("outputs", {})
    _only(outputs, "parameters artifacts", f"{where}.outputs")
    parameters = {
        name: _parameter_selectors(item, f"{where}.outputs.parameters.{name}")
        for name, item in outputs.get("parameters", {}).items()
    }
    artifacts = {
        name: tuple((one["producerSubtask"], one["outputArtifactKey"]) for one in item.get("artifactSelectors", []))
        for name, item in outputs.get("artifacts", {}).items()
    }
    return Dag(tasks, parameters, artifacts)


def _parameter_selectors(entry: Json, where: str) -> tuple[tuple[str, str], ...]:
    _only(entry, "valueFromParameter valueFromOneof", where)
    if "valueFromParameter" in entry:
        chosen = [entry["valueFromParameter"]]
    else:
        chosen = entry.get("valueFromOneof", {}).get("parameterSelectors", [])
    return tuple((one["producerSubtask"], one["outputParameterKey"]) for one in chosen)


_STRATEGIES = {
    **dict.fromkeys((0, "TRIGGER_STRATEGY_UNSPECIFIED", 1, "ALL_UPSTREAM_TASKS_SUCCEEDED"), False),
    **dict.fromkeys((2, "ALL_UPSTREAM_TASKS_COMPLETED"), True),
}
"""Whether a task runs however those before it have ended."""


def _task(name: str, entry: Json, where: str) -> Task:
    known = "taskInfo inputs dependentTasks cachingOptions componentRef triggerPolicy retryPolicy iteratorPolicy"
    _only(entry, f"{known} parameterIterator artifactIterator", where)
    inputs = entry.get("inputs", {})
    _only(inputs, "parameters artifacts", f"{where}.inputs")
    trigger = entry.get("triggerPolicy", {})
    _only(trigger, "condition strategy", f"{where}.triggerPolicy")
    strategy = trigger.get("strategy", 0)
    if strategy not in _STRATEGIES:
        raise SpecProblem(f"{where}.triggerPolicy.strategy: '{strategy}' is not supported.")
    caching = entry.get("cachingOptions", {})
    _only(caching, "enableCache cacheKey", f"{where}.cachingOptions")
    for part, fields in (("taskInfo", "name"), ("componentRef", "name"), ("iteratorPolicy", "parallelismLimit")):
        _only(entry.get(part, {}), fields, f"{where}.{part}")
    return Task(
        name=name,
        display_name=entry.get("taskInfo", {}).get("name", name),
        component=entry.get("componentRef", {}).get("name", ""),
        parameters={
            key: _parameter_source(item, f"{where}.inputs.parameters.{key}")
            for key, item in inputs.get("parameters", {}).items()
        },
        artifacts={
            key: _artifact_source(item, f"{where}.inputs.artifacts.{key}")
            for key, item in inputs.get("artifacts", {}).items()
        },
        dependent=tuple(entry.get("dependentTasks", ())),
        condition=trigger.get("condition", ""),
        when_completed=_STRATEGIES[strategy],
        cache=bool(caching.get("enableCache", False)),
        cache_key=caching.get("cacheKey", ""),
        iterator=_iterator(entry, where),
        retry=_retry(entry.get("retryPolicy", {}), f"{where}.retryPolicy"),
    )


def _parameter_source(entry: Json, where: str) -> Source:
    known = "taskOutputParameter runtimeValue componentInputParameter taskFinalStatus parameterExpressionSelector"
    _only(entry, known, where)
    selector = entry.get("parameterExpressionSelector", "")
    if "taskOutputParameter" in entry:
        origin = entry["taskOutputParameter"]
        return Source("task", origin["producerTask"], origin["outputParameterKey"], selector=selector)
    if "componentInputParameter" in entry:
        return Source("component", key=entry["componentInputParameter"], selector=selector)
    if "taskFinalStatus" in entry:
        return Source("status", entry["taskFinalStatus"]["producerTask"])
    return _value_source(entry.get("runtimeValue", {}), f"{where}.runtimeValue", selector)


def _value_source(entry: Json, where: str, selector: str = "") -> Source:
    _only(entry, "constant constantValue runtimeParameter", where)
    if "runtimeParameter" in entry:
        return Source("component", key=entry["runtimeParameter"], selector=selector)
    if "constantValue" in entry:
        (constant,) = entry["constantValue"].values()
    else:
        constant = entry.get("constant")
    return Source("constant", constant=whole_numbers(constant), selector=selector)


def _artifact_source(entry: Json, where: str) -> Source:
    _only(entry, "taskOutputArtifact componentInputArtifact", where)
    if "taskOutputArtifact" in entry:
        origin = entry["taskOutputArtifact"]
        return Source("task", origin["producerTask"], origin["outputArtifactKey"])
    return Source("component", key=entry["componentInputArtifact"])


def _iterator(entry: Json, where: str) -> Iterator | None:
    limit = int(entry.get("iteratorPolicy", {}).get("parallelismLimit", 0))
    if "parameterIterator" in entry:
        found = entry["parameterIterator"]
        _only(found, "items itemInput", f"{where}.parameterIterator")
        items = found.get("items", {})
        _only(items, "raw inputParameter", f"{where}.parameterIterator.items")
        return Iterator("parameter", found["itemInput"], items.get("inputParameter", ""), items.get("raw", ""), limit)
    if "artifactIterator" in entry:
        found = entry["artifactIterator"]
        _only(found, "items itemInput", f"{where}.artifactIterator")
        _only(found["items"], "inputArtifact", f"{where}.artifactIterator.items")
        return Iterator("artifact", found["itemInput"], found["items"]["inputArtifact"], limit=limit)
    return None


def _retry(entry: Json, where: str) -> Retry:
    _only(entry, "maxRetryCount backoffDuration backoffFactor backoffMaxDuration", where)
    return Retry(
        int(entry.get("maxRetryCount", 0)),
        _seconds(entry.get("backoffDuration", "0s"), f"{where}.backoffDuration"),
        float(entry.get("backoffFactor", 0) or 2),
        min(_seconds(entry.get("backoffMaxDuration", "3600s"), f"{where}.backoffMaxDuration") or 3600, 3600),
    )


def _seconds(text: str, where: str) -> float:
    try:
        return float(text.removesuffix("s"))
    except ValueError:
        raise SpecProblem(f"{where}: '{text}' is not a duration such as '3.5s'.") from None


def _executor(entry: Json, where: str) -> Container | Importer:
    _only(entry, "container importer", where)
    if "importer" in entry:
        return _importer(entry["importer"], f"{where}.importer")
    container = entry.get("container", {})
    _only(container, "image command args env resources", f"{where}.container")
    env = {item["name"]: item.get("value", "") for item in container.get("env", ())}
    resources = container.get("resources", {})
    return Container(
        container.get("image", ""),
        tuple(container.get("command", ())),
        tuple(container.get("args", ())),
        env,
        cpu_limit=str(resources.get("resourceCpuLimit") or resources.get("cpuLimit") or ""),
        memory_limit=_memory(resources),
    )


def _memory(resources: Json) -> str:
    """The limit as text; what older compilers wrote is a number of gigabytes."""
    gigabytes = resources.get("memoryLimit")
    return str(resources.get("resourceMemoryLimit") or (f"{gigabytes}G" if gigabytes else ""))


def _importer(entry: Json, where: str) -> Importer:
    _only(entry, "artifactUri typeSchema metadata reimport downloadToWorkspace", where)
    uri = _value_source(entry.get("artifactUri", {}), f"{where}.artifactUri")
    title, version = _schema(entry.get("typeSchema", {}), f"{where}.typeSchema")
    return Importer(
        uri,
        title,
        version,
        whole_numbers(entry.get("metadata", {})),
        bool(entry.get("reimport", False)),
        bool(entry.get("downloadToWorkspace", False)),
    )


def _check_references(pipeline: Pipeline) -> None:
    for component in (pipeline.root, *pipeline.components.values()):
        where = "root" if component is pipeline.root else f"components.{component.name}"
        if component.dag is None:
            if component.executor not in pipeline.executors:
                raise SpecProblem(f"{where}.executorLabel: there is no executor '{component.executor}'.")
            continue
        for task in component.dag.tasks.values():
            if task.component not in pipeline.components:
                raise SpecProblem(f"{where}.dag.tasks.{task.name}: there is no component '{task.component}'.")
            if task.retry.count > 0 and pipeline.components[task.component].dag is not None:
                raise SpecProblem(
                    f"{where}.dag.tasks.{task.name}.retryPolicy: a nested pipeline is not retried as a whole; set "
                    "retries on the tasks in it."
                )
            for upstream in sorted(task.upstream - set(component.dag.tasks)):
                raise SpecProblem(f"{where}.dag.tasks.{task.name}: there is no upstream task '{upstream}' in its DAG.")
        _check_cycles(component.dag, f"{where}.dag")
    _check_recursion(pipeline, pipeline.root, ())


def _check_cycles(dag: Dag, where: str) -> None:
    from graphlib import CycleError, TopologicalSorter

    try:
        TopologicalSorter({task.name: task.upstream for task in dag.tasks.values()}).prepare()
    except CycleError as error:
        raise SpecProblem(f"{where}: tasks depend on each other in a circle: {' -> '.join(error.args[1])}.") from None


def _check_recursion(pipeline: Pipeline, component: Component, above: tuple[str, ...]) -> None:
    if component.name in above:
        raise SpecProblem(f"components.{component.name}: the component contains itself, which is not supported.")
    if component.dag is not None:
        for label in sorted({task.component for task in component.dag.tasks.values()}):
            _check_recursion(pipeline, pipeline.components[label], (*above, component.name))
