"""What a run will take: device-hours and cost of each task, from earlier runs or from what its parameters allow.

A task runs on a machine of its own, and may start a job on further ones: it does if it takes `machine_type` and
`accelerator_type`. A device-hour is an hour of one machine with its accelerators.
"""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pipelines import UserError, settings
from pipelines.cli import compile, graph
from pipelines.cli.targets import ServiceError
from pipelines.cli.vertex import Vertex
from pipelines.settings import Environment, Prices

OWN_MACHINE = "e2-standard-4"
"""What a task runs on that asks for nothing. Source: cloud.google.com/vertex-ai/docs/pipelines/machine-types"""

ASSUMED_HOURS = 1.0
"""The longest that a task of which nothing is known is taken to last."""

EARLIER_RUNS = 5
TUNE_BUDGET = "tune_budget"
OF_COMPILER = re.compile(r"(exit-handler|condition-branches|condition|for-loop)-\d+")
"""Keys that the compiler gives to what surrounds tasks."""

SIZES = (("max_trials",), ("trial_epochs",), ("epochs", "steps"))
"""Inputs that a task's time grows with; of the names in a group, the one that grows most."""


@dataclasses.dataclass(frozen=True)
class Work:
    """A task that runs in a container, as the compiled pipeline has it.

    Attributes:
        path: keys of the tasks it is in, and its own.
        inputs: its parameters, as far as they are known before the run.
        names: of all parameters that it takes.
        times: how often a loop repeats it; None: that is not known before.
    """

    path: tuple[str, ...]
    inputs: Mapping[str, Any]
    names: frozenset[str]
    times: int | None

    @property
    def machine(self) -> tuple[str, str, int] | None:
        """Machine type, accelerator type and count of the job that it starts; None if it starts none."""
        if not {"machine_type", "accelerator_type"} <= self.names:
            return None
        return (
            str(self.inputs.get("machine_type", "unknown")),
            str(self.inputs.get("accelerator_type", "")),
            int(self.inputs.get("accelerator_count", 0)),
        )


@dataclasses.dataclass(frozen=True)
class Hours:
    """Between what and what a number of hours will be; `low` <= `high`."""

    low: float
    high: float

    def __mul__(self, factor: float) -> Hours:
        return Hours(self.low * factor, self.high * factor)

    def up_to(self, most: float) -> Hours:
        """The same, but no more than so many."""
        return Hours(min(self.low, most), min(self.high, most))


@dataclasses.dataclass(frozen=True)
class Past:
    """What a task took in an earlier run.

    Attributes:
        own: hours of its own machine.
        job: device-hours of the job that it started; 0 if it started none.
        inputs: its parameters then.
    """

    own: float
    job: float
    inputs: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """What a task will take on one kind of machine.

    Attributes:
        task: path of its keys.
        machine: and its accelerators, in words.
        hours: device-hours.
        hourly: US dollars; None: the price table does not know.
        basis: where the hours come from.
    """

    task: str
    machine: str
    hours: Hours
    hourly: float | None
    basis: str

    @property
    def cost(self) -> Hours | None:
        """US dollars, if the price is known."""
        return None if self.hourly is None else self.hours * self.hourly


def limit(pipeline: str, environment: Environment) -> float | None:
    """US dollars that a run may cost at most; None if the settings set no limit.

    Raises:
        UserError: the settings limit a pipeline that there is not, so that another one has no limit.
    """
    for name in environment.max_cost:
        compile.check_name(name, "max_cost.")
    return environment.max_cost.get(pipeline)


def check(
    pipeline: str, spec: Mapping[str, Any], values: Mapping[str, Any], environment: Environment, vertex: Vertex
) -> None:
    """Refuses a run that may cost more than `max_cost` in the settings; nothing happens without that.

    Args:
        pipeline: its name.
        spec: the compiled pipeline.
        values: its parameters.
        environment: the settings.
        vertex: to ask for earlier runs.

    Raises:
        UserError: it may cost more, or what it may cost is not known.
        ServiceError: the service refused or failed a call.
    """
    most = limit(pipeline, environment)
    if most is None:
        return
    prices = settings.prices()
    found = estimate(spec, values, history(vertex, pipeline), prices)
    unknown = sorted({row.machine for row in found if row.cost is None})
    if unknown:
        raise UserError(
            f"max_cost.{pipeline}={most:g}: prices.yaml has no price of {', '.join(unknown)}; add it, or leave out "
            "max_cost"
        )
    may_cost = total(found, prices).high
    if may_cost > most:
        dear = max(found, key=lambda row: row.cost.high if row.cost else 0.0)
        raise UserError(
            f"a run of {pipeline} may cost ${may_cost:,.2f}, which is over max_cost.{pipeline}={most:g}; most of it is "
            f"{dear.task} on {dear.machine}, {dear.basis}. See make cost PIPELINE={pipeline}; lower its parameters "
            "or raise max_cost"
        )


def within_tune_cost(pipeline: str, values: Mapping[str, Any], environment: Environment) -> dict[str, Any]:
    """The parameters of a run whose trials cost no more than `max_tune_cost` in the settings.

    Trials are counted in device-hours: the dollars are as many of them as the price table makes of the machine.

    Args:
        pipeline: its name.
        values: its parameters; a smaller `tune_budget` stays as it is.
        environment: the settings.

    Raises:
        UserError: there is no such pipeline, it does not tune, or the price of its machine is not known.
    """
    for name in environment.max_tune_cost:
        compile.check_name(name, "max_tune_cost.")
    most = environment.max_tune_cost.get(pipeline)
    if most is None:
        return dict(values)
    if TUNE_BUDGET not in values:
        raise UserError(
            f"max_tune_cost.{pipeline}={most:g}: {pipeline} has no {TUNE_BUDGET} in its settings; leave it out"
        )
    machine = values["machine_type"], values["accelerator_type"], values["accelerator_count"]
    hourly = settings.prices().hourly(*machine)
    if not hourly:
        known = "has no price of" if hourly is None else "says that nothing is to be paid for"
        raise UserError(f"max_tune_cost.{pipeline}={most:g}: prices.yaml {known} {machine[0]} {machine[1]}".rstrip())
    hours = math.floor(most / hourly * 1e4) / 1e4
    return {**values, TUNE_BUDGET: min(values[TUNE_BUDGET] or hours, hours)}


def estimate(
    spec: Mapping[str, Any], values: Mapping[str, Any], past: Mapping[tuple[str, ...], Sequence[Past]], prices: Prices
) -> list[Row]:
    """What each task will take; a task that starts a job has two rows.

    Args:
        spec: the compiled pipeline.
        values: its parameters.
        past: what tasks took in earlier runs, by path.
        prices: of machines.
    """
    rows = []
    found = list(works(spec, values))
    epoch_hours = _epoch_hours(found)
    for work in found:
        earlier = past.get(work.path, ())
        if earlier:
            factors = [growth(before.inputs, work.inputs) for before in earlier]
            own = _range(before.own * factor for before, factor in zip(earlier, factors, strict=True))
            job = _range(before.job * factor for before, factor in zip(earlier, factors, strict=True))
            basis = f"{len(earlier)} earlier run{'s' if len(earlier) > 1 else ''}"
            if any(not math.isclose(factor, 1.0) for factor in factors):
                basis += f", scaled by {_range(factors).high:.3g}"
        else:
            own, job, basis = _assumed(work, epoch_hours)
        if budget := float(work.inputs.get(TUNE_BUDGET) or 0.0):
            own, job = own.up_to(budget), job.up_to(budget)
            basis += f", ends at its budget of {budget:g} h"
        name = "/".join(key for key in work.path if not OF_COMPILER.fullmatch(key))
        rows.append(Row(name, OWN_MACHINE, own, prices.hourly(OWN_MACHINE), basis))
        if work.machine:
            machine, accelerator, count = work.machine
            words = f"{machine} + {count} {accelerator}" if count else machine
            rows.append(Row(name, words, job, prices.hourly(machine, accelerator, count), basis))
    return rows


def works(spec: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[Work]:
    """All tasks of a compiled pipeline that run in a container, those inside of others too.

    Args:
        spec: the compiled pipeline.
        values: its parameters; for others, their defaults count.
    """
    declared = compile.interface(spec)
    known = {name: entry["defaultValue"] for name, entry in declared.items() if "defaultValue" in entry}
    yield from _works(spec, spec["root"]["dag"], {**known, **values}, (), 1)


def _works(
    spec: Mapping[str, Any], dag: Mapping[str, Any], values: Mapping[str, Any], path: tuple[str, ...], times: int | None
) -> Iterator[Work]:
    for key, task in dag["tasks"].items():
        component = spec["components"][task["componentRef"]["name"]]
        declared = component.get("inputDefinitions", {}).get("parameters", {})
        inputs = {name: entry["defaultValue"] for name, entry in declared.items() if "defaultValue" in entry}
        for name, source in task.get("inputs", {}).get("parameters", {}).items():
            if "constant" in source.get("runtimeValue", {}):
                inputs[name] = source["runtimeValue"]["constant"]
            elif source.get("componentInputParameter") in values:
                inputs[name] = values[source["componentInputParameter"]]
            else:
                inputs.pop(name, None)
        rounds = _rounds(task, values)
        often = None if times is None or rounds is None else times * rounds
        if "dag" in component:
            yield from _works(spec, component["dag"], inputs, (*path, key), often)
        elif "container" in spec["deploymentSpec"]["executors"][component["executorLabel"]]:
            yield Work((*path, key), inputs, frozenset(declared), often)


def _rounds(task: Mapping[str, Any], values: Mapping[str, Any]) -> int | None:
    """How often a task is run: more than once if it is a loop; None: known only when it is run."""
    if "artifactIterator" in task:
        return None
    items = task.get("parameterIterator", {}).get("items")
    if items is None:
        return 1
    found = json.loads(items["raw"]) if "raw" in items else values.get(str(items.get("inputParameter")))
    return len(found) if isinstance(found, list) else None


def history(vertex: Vertex, pipeline: str) -> dict[tuple[str, ...], list[Past]]:
    """What each task took in the last runs of a pipeline that succeeded; what came from the cache tells nothing.

    Raises:
        ServiceError: the service refused or failed a call.
    """
    listed = vertex.pages(
        f"{vertex.parent}/pipelineJobs",
        filter=f'labels.pipeline="{pipeline}" AND state="{graph.DONE}"',
        readMask="name,createTime",
    )
    newest = sorted(listed, key=lambda job: str(job["createTime"]), reverse=True)[:EARLIER_RUNS]
    found: dict[tuple[str, ...], list[Past]] = {}
    for job in newest:
        for path, past in past_tasks(vertex.get(job["name"]), lambda name: _job_hours(vertex, name)).items():
            found.setdefault(path, []).append(past)
    return found


def past_tasks(job: Mapping[str, Any], job_hours: Any) -> dict[tuple[str, ...], Past]:
    """What the tasks of a run took that were really run; the rounds of a loop are added up.

    Args:
        job: the PipelineJob resource.
        job_hours: gives the device-hours of a job by its resource name.
    """
    details = {detail["taskId"]: detail for detail in job.get("jobDetail", {}).get("taskDetails", [])}
    inner = {detail.get("parentTaskId") for detail in details.values()}
    keys = _keys(job.get("pipelineSpec", {}))
    found: dict[tuple[str, ...], Past] = {}
    unknown = set()
    for detail in details.values():
        if detail["taskId"] in inner:
            continue
        path = tuple(name for name in _names(detail, details) if name in keys)
        if detail.get("state") != "SUCCEEDED":
            unknown.add(path)
            continue
        metadata = detail.get("execution", {}).get("metadata", {})
        inputs = {name.removeprefix("input:"): value for name, value in metadata.items() if name.startswith("input:")}
        before = found.get(path, Past(0.0, 0.0, inputs))
        resources = json.loads(metadata.get("output:gcp_resources") or "{}").get("resources", [])
        started = sum(job_hours(each["resourceUri"].partition("/v1/")[2]) for each in resources)
        found[path] = Past(before.own + graph.elapsed(detail) / 3600, before.job + started, inputs)
    return {path: past for path, past in found.items() if path not in unknown}


def _keys(spec: Mapping[str, Any]) -> set[str]:
    """Keys of all tasks; what a run has beside them are the rounds of loops."""
    inside = [component.get("dag", {}) for component in spec.get("components", {}).values()]
    return {key for dag in (spec.get("root", {}).get("dag", {}), *inside) for key in dag.get("tasks", {})}


def _names(detail: Mapping[str, Any], details: Mapping[str, Mapping[str, Any]]) -> list[str]:
    names = [str(detail.get("taskName", ""))]
    while parent := details.get(detail.get("parentTaskId", "")):
        detail = parent
        names.append(str(detail.get("taskName", "")))
    return names[::-1]


def _job_hours(vertex: Vertex, name: str) -> float:
    """Device-hours of a CustomJob or a HyperparameterTuningJob; 0 of one that is gone, or of anything else."""
    if "/customJobs/" not in name and "/hyperparameterTuningJobs/" not in name:
        return 0.0
    try:
        job = vertex.get(name)
    except ServiceError:
        return 0.0
    spec = job.get("jobSpec") or job.get("trialJobSpec") or {}
    machines = sum(int(pool.get("replicaCount", 1)) for pool in spec.get("workerPoolSpecs", [])) or 1
    parts = job.get("trials", [job])
    return machines * sum(graph.elapsed(part) for part in parts) / 3600


def growth(before: Mapping[str, Any], now: Mapping[str, Any]) -> float:
    """How much more a task has to do than before, by the sizes that it takes: twice the epochs take twice as long."""
    factor = 1.0
    for group in SIZES:
        ratios = [
            float(now[name]) / float(before[name])
            for name in group
            if isinstance(now.get(name), int | float) and isinstance(before.get(name), int | float) and before[name]
        ]
        factor *= max(ratios, default=1.0)
    return factor


def _epoch_hours(found: Iterable[Work]) -> float | None:
    """The longest that an epoch can take where training has to end in time; None if none has to."""
    limits = [
        _seconds(work.inputs["timeout"]) / 3600 / work.inputs["epochs"]
        for work in found
        if _seconds(work.inputs.get("timeout")) and work.inputs.get("epochs")
    ]
    return max(limits, default=None)


def _assumed(work: Work, epoch_hours: float | None) -> tuple[Hours, Hours, str]:
    """Hours of a task's own machine, of the job that it starts, and how they were assumed."""
    trials, epochs = work.inputs.get("max_trials"), work.inputs.get("trial_epochs")
    if work.machine and trials and epochs and epoch_hours:
        job = Hours(0.0, trials * epochs * epoch_hours)
        own = job * (1 / max(1, min(trials, work.inputs.get("parallel_trials", 1))))
        return own, job, "no earlier run; assumed: no epoch of a trial takes longer than `timeout` allows one"
    if work.machine and (limit := _seconds(work.inputs.get("timeout")) / 3600):
        return Hours(0.0, limit), Hours(0.0, limit), "no earlier run; assumed: up to its timeout"
    hours = Hours(0.0, ASSUMED_HOURS * (1 if work.times is None else work.times))
    return hours, hours if work.machine else Hours(0.0, 0.0), f"no earlier run; assumed: up to {hours.high:g} h"


def _seconds(timeout: Any) -> float:
    text = str(timeout or "").removesuffix("s")
    return float(text) if text.isdigit() else 0.0


def _range(values: Iterable[float]) -> Hours:
    found = list(values)
    return Hours(min(found), max(found))


def total(rows: Iterable[Row], prices: Prices) -> Hours:
    """US dollars of all rows whose price is known, and of the run itself."""
    costs = [row.cost for row in rows if row.cost is not None]
    return Hours(prices.run + sum(cost.low for cost in costs), prices.run + sum(cost.high for cost in costs))
