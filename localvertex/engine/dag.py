"""The order of things: which task may start when, and what follows from how tasks end.

A run is a tree of nodes. Nodes with children are DAGs and loops; leaves are executed by somebody else, who is told
through `Observer.launch` and answers with `Graph.finish`. Nothing here waits, and nothing here is durable.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from localvertex.engine import conditions, placeholders
from localvertex.engine.inputs import InputProblem, gather
from localvertex.engine.spec import Component, Iterator, Pipeline, Retry, Task
from localvertex.engine.values import Artifact, Inputs, Outputs, State, ValueProblem, parsed, text_of, typed


class Observer(Protocol):
    """Who executes leaves and keeps the journal."""

    def begin(self, node: Node) -> None:
        """A DAG or loop started."""

    def launch(self, node: Node) -> None:
        """A leaf is to be executed; its inputs are set."""

    def end(self, node: Node) -> None:
        """A node reached its final state."""


@dataclass(eq=False)
class Node:
    """A task in a run, or one iteration of a loop.

    Args:
        path: its place in the run; empty for the pipeline itself.
        name: what the API calls it.
        task: its text.
        component: what it runs.
        parent: the node that it is part of.
    """

    path: str
    name: str
    task: Task
    component: Component
    parent: Node | None
    state: State = State.PENDING
    inputs: Inputs = field(default_factory=Inputs)
    outputs: Outputs = field(default_factory=Outputs)
    error: str = ""
    children: dict[str, Node] = field(default_factory=dict)
    waiting: int = 0
    """Children that have not ended; for a child that has not started, upstream tasks that have not ended."""
    dependents: list[Node] = field(default_factory=list)
    unstarted: deque[Node] = field(default_factory=deque)
    """Iterations of a loop that wait for others to end."""

    @property
    def iterator(self) -> Iterator | None:
        """How the node fans out, if it is a loop."""
        return self.task.iterator

    @property
    def leaf(self) -> bool:
        """Whether it is executed, rather than made of other nodes."""
        return self.component.dag is None and self.iterator is None


class Graph:
    """One run's tree of nodes. Not thread-safe: one thread tells it all that happens.

    Args:
        pipeline: what to run.
        inputs: the pipeline's parameters, defaults included.
        observer: told what to execute and what happened.
        fail_fast: start nothing new once a task has failed, but for tasks that run whatever came before.
        run_name: what the pipeline's own node is called, and what `PipelineTaskFinalStatus` names as the job.
        facts: what plain placeholders stand for in the whole run, by path.
        earlier: how far each task had come when the run was interrupted, by path.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        inputs: Inputs,
        observer: Observer,
        *,
        fail_fast: bool = False,
        run_name: str = "",
        facts: Mapping[str, str] | None = None,
        earlier: Mapping[str, State] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._observer = observer
        self._fail_fast = fail_fast
        self._run_name = run_name
        self._facts = facts or {}
        self._work: deque[Callable[[], None]] = deque()
        self._working = False
        self._earlier = earlier or {}
        self.failed = State.FAILED in self._earlier.values()
        self.cancelled = False
        name = run_name.rsplit("/", 1)[-1]
        task = Task(name, name, "root", {}, {}, (), "", False, False, "", None, Retry())
        self.root = Node("", name, task, pipeline.root, None)
        self.root.inputs = inputs

    def start(self) -> None:
        """Begin; the observer hears of what can start at once."""
        self._do(lambda: self._enter(self.root))

    def finish(self, leaf: Node, state: State, outputs: Outputs, error: str = "") -> None:
        """A leaf ended."""
        self._do(lambda: self._end(leaf, state, outputs, error))

    def cancel(self) -> None:
        """Start nothing any more. Leaves under way are for the observer to stop and to finish."""
        self.cancelled = True

        def cancel_waiting_iterations(node: Node) -> None:
            while node.unstarted:
                self._end(node.unstarted.popleft(), State.CANCELLED)
            for child in list(node.children.values()):
                if child.state is State.RUNNING:
                    cancel_waiting_iterations(child)

        self._do(lambda: cancel_waiting_iterations(self.root))

    def _do(self, step: Callable[[], None]) -> None:
        """Steps lead to steps; a queue instead of recursion, since chains may be long."""
        self._work.append(step)
        if self._working:
            return
        self._working = True
        try:
            while self._work:
                self._work.popleft()()
        finally:
            self._working = False

    def _ready(self, node: Node) -> None:
        """All upstream tasks of a node have ended: start it, or settle why it does not start."""
        assert node.parent is not None
        siblings = node.parent.children
        if self.cancelled:
            return self._end(node, State.CANCELLED)
        triggered = node.task.when_completed or all(siblings[name].state.success for name in node.task.upstream)
        if not triggered or self._held_back(node):
            return self._end(node, State.NOT_TRIGGERED)
        try:
            node.inputs = gather(
                node.task,
                node.component,
                _visible(node.parent),
                siblings,
                lambda name: self._final_status(siblings[name]),
            )
            if node.task.condition:
                seen = placeholders.resolve_inputs(node.inputs, self._facts)
                if not conditions.holds(node.task.condition, seen):
                    return self._end(node, State.NOT_TRIGGERED)
        except (InputProblem, conditions.ExpressionProblem) as problem:
            return self._end(node, State.FAILED, error=str(problem))
        self._enter(node)

    def _enter(self, node: Node) -> None:
        node.state = State.RUNNING
        if node.leaf:
            return self._observer.launch(node)
        self._observer.begin(node)
        if node.iterator is not None:
            self._enter_loop(node, node.iterator)
        else:
            self._enter_dag(node)

    def _enter_dag(self, node: Node) -> None:
        assert node.component.dag is not None
        prefix = f"{node.path}/" if node.path else ""
        for name, task in node.component.dag.tasks.items():
            component = self._pipeline.components[task.component]
            node.children[name] = Node(prefix + name, name, task, component, node)
        node.waiting = len(node.children)
        for child in node.children.values():
            child.waiting = len(child.task.upstream)
            for name in child.task.upstream:
                node.children[name].dependents.append(child)
        self._start_all(child for child in node.children.values() if not child.waiting)
        if not node.children:
            self._conclude(node)

    def _enter_loop(self, node: Node, iterator: Iterator) -> None:
        try:
            rounds = list(_iterations(node, iterator, self._facts))
        except (ValueProblem, placeholders.PlaceholderProblem) as problem:
            return self._end(node, State.FAILED, error=f"loop items: {problem}")
        task = replace(node.task, iterator=None)
        for index, inputs in enumerate(rounds):
            child = Node(f"{node.path}/{index}", f"{node.name}-{index}", task, node.component, node)
            child.inputs = inputs
            node.children[str(index)] = child
            node.unstarted.append(child)
        node.waiting = len(node.children)
        for _ in range(iterator.limit or len(rounds)):
            self._start_iteration(node)
        if not node.children:
            self._conclude(node)

    def _start_iteration(self, loop: Node) -> None:
        if loop.unstarted:
            self._work.append(partial(self._enter_iteration, loop.unstarted.popleft()))

    def _enter_iteration(self, node: Node) -> None:
        if self.cancelled:
            self._end(node, State.CANCELLED)
        elif self._held_back(node):
            self._end(node, State.NOT_TRIGGERED)
        else:
            self._enter(node)

    def _held_back(self, node: Node) -> bool:
        """Whether a failure elsewhere keeps a node from starting; not in a task that runs whatever came before."""
        earlier = self._earlier.get(node.path)
        if earlier is not None:
            return earlier is State.NOT_TRIGGERED
        within: Node | None = node
        while within is not None and not within.task.when_completed:
            within = within.parent
        return self._fail_fast and self.failed and within is None

    def _start_all(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self._work.append(partial(self._ready, node))

    def _end(self, node: Node, state: State, outputs: Outputs | None = None, error: str = "") -> None:
        node.state, node.error = state, error
        node.outputs = outputs or Outputs()
        self.failed = self.failed or state is State.FAILED
        self._observer.end(node)
        parent = node.parent
        if parent is None:
            return
        for dependent in node.dependents:
            dependent.waiting -= 1
            if not dependent.waiting:
                self._start_all([dependent])
        parent.waiting -= 1
        if not parent.waiting:
            self._work.append(partial(self._conclude, parent))
        elif parent.iterator is not None:
            self._start_iteration(parent)

    def _conclude(self, node: Node) -> None:
        states = [child.state for child in node.children.values()]
        # A run of which a cancellation stopped anything is cancelled, whatever failed in it before.
        if self.cancelled and State.CANCELLED in states:
            return self._end(node, State.CANCELLED)
        failed = [child.name for child in node.children.values() if child.state is State.FAILED]
        if failed:
            return self._end(node, State.FAILED, error=failed_tasks(failed))
        outputs = _collected(node) if node.iterator is not None else _selected(node)
        self._end(node, State.SUCCEEDED, outputs)

    def _final_status(self, node: Node) -> Mapping[str, Any]:
        status: dict[str, Any] = {
            "state": node.state.name,
            "pipelineJobResourceName": self._run_name,
            "pipelineTaskName": node.name,
            "error": {},
        }
        if node.state is State.FAILED:
            status["error"] = {"code": 9, "message": node.error}
        return status


def failed_tasks(names: list[str]) -> str:
    """Vertex's sentence for a DAG in which tasks failed."""
    return f"The DAG failed because some tasks failed. The failed tasks are: [{', '.join(names)}]."


def _visible(node: Node) -> Inputs:
    """Inputs of a DAG, over those of the DAGs around it: kfp 2.17 hands on too few to a loop in a loop."""
    parameters: dict[str, Any] = {}
    artifacts: dict[str, Any] = {}
    around: Node | None = node
    while around is not None:
        parameters = {**around.inputs.parameters, **parameters}
        artifacts = {**around.inputs.artifacts, **artifacts}
        around = around.parent
    # What the DAG declares and was not given is absent, whatever others call by that name.
    own = node.inputs
    for name in node.component.inputs.parameters.keys() - own.parameters.keys():
        parameters.pop(name, None)
    for name in node.component.inputs.artifacts.keys() - own.artifacts.keys():
        artifacts.pop(name, None)
    return replace(own, parameters=parameters, artifacts=artifacts)


def _iterations(node: Node, iterator: Iterator, facts: Mapping[str, str]) -> Iterable[Inputs]:
    inputs = node.inputs
    if iterator.over == "artifact":
        for artifact in inputs.artifacts.get(iterator.source, []):
            yield replace(inputs, artifacts={**inputs.artifacts, iterator.item: [artifact]})
        return
    if iterator.raw:
        context = placeholders.Context(inputs, facts)
        items = placeholders.resolve_leaves(typed(iterator.raw, "LIST"), context)
    else:
        items = typed(placeholders.resolve_inputs(inputs, facts).parameters.get(iterator.source, []), "LIST")
    declared = node.component.inputs.parameters.get(iterator.item)
    for item in items:
        kind = declared.kind if declared else ""
        yield replace(inputs, parameters={**inputs.parameters, iterator.item: _item(item, kind)})


def _item(item: Any, kind: str) -> Any:
    if isinstance(item, str):  # of any type: it may have been a placeholder
        return parsed(item, kind)
    # The compiler takes the items of a list of unknown type for text.
    return text_of(item) if kind == "STRING" else typed(item, kind)


def _selected(node: Node) -> Outputs:
    """A DAG's outputs: of the tasks that an output may come from, those that ran (one of them, for OneOf)."""
    assert node.component.dag is not None
    parameters, artifacts = {}, {}
    for name, choices in node.component.dag.parameters.items():
        made = [node.children[task].outputs.parameters for task, key in choices]
        values = [found[key] for found, (_, key) in zip(made, choices, strict=True) if key in found]
        if values:
            parameters[name] = values[0]
    for name, choices in node.component.dag.artifacts.items():
        lists = [node.children[task].outputs.artifacts.get(key, []) for task, key in choices]
        artifacts[name] = [artifact for items in lists for artifact in items]
    return Outputs(parameters, {name: items for name, items in artifacts.items() if items or _is_list(node, name)})


def _collected(node: Node) -> Outputs:
    """A loop's outputs: parameters as lists and artifacts in one list, in the order of the iterations."""
    made = [child.outputs for child in node.children.values()]
    parameters = {
        name: [outputs.parameters[name] for outputs in made if name in outputs.parameters]
        for name in node.component.outputs.parameters
    }
    artifacts = {
        name: [artifact for outputs in made for artifact in outputs.artifacts.get(name, [])]
        for name in node.component.outputs.artifacts
    }
    return Outputs(parameters, artifacts)


def _is_list(node: Node, output: str) -> bool:
    declared = node.component.outputs.artifacts.get(output)
    return declared is not None and declared.is_list


def root_inputs(pipeline: Pipeline, given: Mapping[str, Any], artifacts: Mapping[str, Artifact]) -> Inputs:
    """A pipeline's inputs from the parameter values and artifacts of a run, checked at admission, and its defaults."""
    declared = pipeline.root.inputs.parameters
    parameters = {name: typed(json.loads(json.dumps(value)), declared[name].kind) for name, value in given.items()}
    defaults = {name: item.default for name, item in declared.items() if name not in given and item.default is not None}
    lists = {name: [artifact] for name, artifact in artifacts.items()}
    return Inputs({**defaults, **parameters}, lists, frozenset(defaults))
