"""Random pipelines as plain data, what they compile to, and what should come of them by a few rules of their own.

Nothing here calls the engine: the rules are written down a second time, as one recursion over the plan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

SUCCEEDED, SKIPPED, FAILED, NOT_TRIGGERED, CANCELLED = "SUCCEEDED", "SKIPPED", "FAILED", "NOT_TRIGGERED", "CANCELLED"
GOOD = (SUCCEEDED, SKIPPED)


@dataclass(frozen=True)
class Condition:
    """What a step runs under.

    Args:
        kind: `constant`, `item` (of the loop `of`, an index) or `output` (of the upstream step `of`, a 0 or a 1).
        value: what it must equal; for a constant, whether it is true.
    """

    kind: str
    of: str
    value: int


@dataclass(frozen=True)
class Loop:
    """How a step fans out.

    Args:
        items: over so many indices; over the collected outputs of the upstream step `of` if that is named.
        limit: parallelism; 0 for none.
    """

    items: int
    limit: int
    of: str = ""


@dataclass(frozen=True)
class Step:
    """A task: a leaf, or a DAG of further steps.

    Args:
        upstream: names of steps before it in the same plan.
        completed: it runs whatever became of them.
        retries: of a leaf.
        body: its steps, by name; None for a leaf.
    """

    upstream: frozenset[str]
    completed: bool = False
    condition: Condition | None = None
    loop: Loop | None = None
    retries: int = 0
    body: Plan | None = None


Plan = Mapping[str, Step]


@dataclass(frozen=True)
class Ending:
    """How a leaf ends: its state, and the 0 or 1 that is its output if it succeeds."""

    state: str
    output: int = 0


def random_plan(
    random: Random, depth: int = 2, loops: tuple[str, ...] = (), prefix: str = "", most: int = 6
) -> dict[str, Step]:
    """A few steps, nested to a depth.

    Args:
        random: decides everything.
        loops: names of the loops around.
        prefix: of the steps' names, which are unique across the whole plan.
        most: how many steps.
    """
    plan: dict[str, Step] = {}
    for index in range(random.randint(1 if prefix else 0, most)):
        name = f"{prefix}{'abcdefgh'[index]}"
        upstream = frozenset(each for each in plan if random.random() < 0.4)
        loop = _random_loop(random, plan, upstream) if depth and random.random() < 0.4 else None
        inside = (*loops, name) if loop else loops
        body = random_plan(random, depth - 1, inside, name, 3) if depth and random.random() < 0.5 else None
        plan[name] = Step(
            upstream,
            bool(upstream) and random.random() < 0.4,
            _random_condition(random, plan, upstream, loops) if random.random() < 0.4 else None,
            loop,
            random.randint(0, 2) if body is None else 0,
            body,
        )
    return plan


def _random_loop(random: Random, plan: Plan, upstream: frozenset[str]) -> Loop:
    collected = [name for name in sorted(upstream) if plan[name].loop]
    return Loop(random.randint(0, 4), random.randint(0, 3), random.choice(["", *collected]))


def _random_condition(random: Random, plan: Plan, upstream: frozenset[str], loops: tuple[str, ...]) -> Condition:
    single = [name for name in sorted(upstream) if not plan[name].loop]
    choices = [("constant", ""), *(("item", name) for name in loops), *(("output", name) for name in single)]
    return Condition(*random.choice(choices), random.randint(0, 1))


def leaves(plan: Plan) -> Iterator[tuple[str, Step]]:
    """All leaves of a plan; names are unique across it."""
    for name, step in plan.items():
        yield from leaves(step.body) if step.body is not None else [(name, step)]


# What the rules say.


@dataclass
class Prediction:
    """What should become of each task, by its path in the run.

    Args:
        endings: how a leaf ends should it be started, by its path and the items of the loops around it.
    """

    endings: Callable[[str, Mapping[str, int]], Ending]
    states: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)

    def of(self, plan: Plan) -> str:
        """The state of the whole run."""
        self.states[""] = self._dag(plan, "", {})
        return self.states[""]

    def _dag(self, plan: Plan, path: str, items: Mapping[str, int]) -> str:
        for name, step in plan.items():
            self.states[_under(path, name)] = self._step(step, _under(path, name), items)
        made = [
            _under(path, name) for name, step in plan.items() if not step.loop and _under(path, name) in self.outputs
        ]
        state = together(self.states[_under(path, name)] for name in plan)
        if state == SUCCEEDED and made:
            self.outputs[path] = self.outputs[made[0]]
        return state

    def _step(self, step: Step, path: str, items: Mapping[str, int]) -> str:
        around = path.rpartition("/")[0]
        upstream = {name: _under(around, name) for name in step.upstream}
        if not step.completed and any(self.states[each] not in GOOD for each in upstream.values()):
            return NOT_TRIGGERED
        read = [step.loop.of] if step.loop and step.loop.of else []
        read += [step.condition.of] if step.condition and step.condition.kind == "output" else []
        if any(upstream[name] not in self.outputs for name in read):
            return FAILED
        if step.condition is not None and not self._holds(step.condition, upstream, items):
            return NOT_TRIGGERED
        if step.loop is None:
            return self._body(step, path, items)
        found = self.outputs[upstream[step.loop.of]] if step.loop.of else list(range(step.loop.items))
        name = path.rpartition("/")[2]
        for index, item in enumerate(found):
            self.states[f"{path}/{index}"] = self._body(step, f"{path}/{index}", {**items, name: item})
        state = together(self.states[f"{path}/{index}"] for index in range(len(found)))
        if state == SUCCEEDED:
            made = [f"{path}/{index}" for index in range(len(found))]
            self.outputs[path] = [self.outputs[each] for each in made if each in self.outputs]
        return state

    def _body(self, step: Step, path: str, items: Mapping[str, int]) -> str:
        if step.body is not None:
            return self._dag(step.body, path, items)
        ending = self.endings(path, items)
        if ending.state in GOOD:
            self.outputs[path] = ending.output
        return ending.state

    def _holds(self, condition: Condition, upstream: Mapping[str, str], items: Mapping[str, int]) -> bool:
        if condition.kind == "constant":
            return bool(condition.value)
        seen = items[condition.of] if condition.kind == "item" else self.outputs[upstream[condition.of]]
        return bool(seen == condition.value)


def together(states: Iterator[str]) -> str:
    """The state of a DAG or loop, from those of its parts."""
    found = set(states)
    return next((state for state in (CANCELLED, FAILED) if state in found), SUCCEEDED)


def _under(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name


# What a plan compiles to.

SCRIPT = """
echo start >> "$1.starts"
attempt=$(basename "$(dirname "$2")" | awk -F_ '{print $3 + 0}')
set -- $(sed -n "$((attempt + 1))p" "$1") "$2"
sleep "$1" || exit 9
[ "$2" = 0 ] || exit "$2"
printf %s "$3" > "$4"
"""


def compiled(plan: Plan, folder: str = "", cached: bool = False) -> dict[str, Any]:
    """The plan as a PipelineSpec.

    Args:
        folder: where leaves find what they are to do, in a file named after the leaf and the items of the loops around
            it, `ab.0.2`: a line an attempt, `<seconds> <exit code> <output>`.
        cached: whether leaves may be answered from the cache.
    """
    components: dict[str, Any] = {}
    executors: dict[str, Any] = {}
    _compile(plan, (), components, executors, folder, cached)
    root = {"dag": {"tasks": {name: _task(name, step, (), plan, cached) for name, step in plan.items()}}}
    return {
        "schemaVersion": "2.1.0",
        "pipelineInfo": {"name": "random"},
        "root": root,
        "components": components,
        "deploymentSpec": {"executors": executors},
    }


def _compile(
    plan: Plan, loops: tuple[str, ...], components: dict[str, Any], executors: dict[str, Any], folder: str, cached: bool
) -> None:
    for name, step in plan.items():
        inside = (*loops, name) if step.loop else loops
        integer = {"parameterType": "NUMBER_INTEGER"}
        component: dict[str, Any] = {
            "inputDefinitions": {"parameters": {f"item-{loop}": integer for loop in inside}},
            "outputDefinitions": {"parameters": {"out": integer}},
        }
        components[f"comp-{name}"] = component
        if step.loop and step.loop.of:
            component["inputDefinitions"]["parameters"][f"{name}-items"] = {"parameterType": "LIST"}
        if step.condition and step.condition.kind == "output":
            component["inputDefinitions"]["parameters"]["seen"] = integer
        if step.body is None:
            component["executorLabel"] = f"exec-{name}"
            key = ".".join([f"{folder}/{name}", *(f"{{{{$.inputs.parameters['item-{loop}']}}}}" for loop in inside)])
            output = "{{$.outputs.parameters['out'].output_file}}"
            executors[f"exec-{name}"] = {
                "container": {"image": "alpine:3", "command": ["sh", "-c", SCRIPT, "leaf"], "args": [key, output]}
            }
            continue
        _compile(step.body, inside, components, executors, folder, cached)
        body = step.body
        component["dag"] = {"tasks": {each: _task(each, body[each], inside, body, cached) for each in body}}
        # The first of them that has one.
        chosen = [{"producerSubtask": each, "outputParameterKey": "out"} for each in body if not body[each].loop]
        if chosen:
            component["dag"]["outputs"] = {"parameters": {"out": {"valueFromOneof": {"parameterSelectors": chosen}}}}


def _task(name: str, step: Step, loops: tuple[str, ...], plan: Plan, cached: bool) -> dict[str, Any]:
    parameters: dict[str, Any] = {f"item-{loop}": {"componentInputParameter": f"item-{loop}"} for loop in loops}
    trigger: dict[str, Any] = {}
    task: dict[str, Any] = {
        "taskInfo": {"name": name},
        "componentRef": {"name": f"comp-{name}"},
        "dependentTasks": sorted(step.upstream),
        "inputs": {"parameters": parameters},
        "triggerPolicy": trigger,
        "cachingOptions": {"enableCache": cached},
        "retryPolicy": {"maxRetryCount": step.retries, "backoffDuration": "0.01s"},
    }
    if step.completed:
        trigger["strategy"] = "ALL_UPSTREAM_TASKS_COMPLETED"
    if condition := step.condition:
        subject = {"constant": "1", "item": f"inputs.parameter_values['item-{condition.of}']"}
        seen = subject.get(condition.kind, "inputs.parameter_values['seen']")
        trigger["condition"] = f"int({seen}) == {condition.value}"
        if condition.kind == "output":
            parameters["seen"] = _output(condition.of)
    if loop := step.loop:
        task["iteratorPolicy"] = {"parallelismLimit": loop.limit}
        items = {"inputParameter": f"{name}-items"} if loop.of else {"raw": str(list(range(loop.items)))}
        task["parameterIterator"] = {"itemInput": f"item-{name}", "items": items}
        if loop.of:
            parameters[f"{name}-items"] = _output(loop.of)
    return task


def _output(task: str) -> dict[str, Any]:
    return {"taskOutputParameter": {"producerTask": task, "outputParameterKey": "out"}}
