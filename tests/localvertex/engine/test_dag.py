"""Protects the order of tasks: any graph ends, a task starts once and after its upstream, failure spreads right."""

from __future__ import annotations

from collections import deque

from hypothesis import given
from hypothesis import strategies as st

from localvertex.engine.dag import Graph, Node
from localvertex.engine.spec import Component, Dag, Interface, Iterator, Pipeline, Retry, Task
from localvertex.engine.values import Inputs, Outputs, State

NOTHING = Interface({}, {})
LEAF = Component("leaf", NOTHING, NOTHING, executor="e")


def task(name: str, upstream: frozenset[str], completed: bool = False, iterator: Iterator | None = None) -> Task:
    return Task(name, name, "leaf", {}, {}, tuple(upstream), "", completed, False, "", iterator, Retry())


class Collector:
    """Observer that remembers what was launched and ended, in order."""

    def __init__(self) -> None:
        self.launched: deque[Node] = deque()
        self.started: list[str] = []
        self.ended: list[str] = []

    def begin(self, node: Node) -> None:
        pass

    def launch(self, node: Node) -> None:
        self.started.append(node.path)
        self.launched.append(node)

    def end(self, node: Node) -> None:
        self.ended.append(node.path)


@st.composite
def dags(draw: st.DrawFn) -> tuple[Dag, set[str]]:
    count = draw(st.integers(0, 12))
    tasks = {}
    for index in range(count):
        upstream = draw(st.frozensets(st.sampled_from([f"t{i}" for i in range(index)]))) if index else frozenset()
        tasks[f"t{index}"] = task(f"t{index}", upstream, completed=draw(st.booleans()))
    failing = draw(st.sets(st.sampled_from(sorted(tasks)))) if tasks else set()
    return Dag(tasks, {}, {}), failing


@given(dags(), st.randoms(use_true_random=False))
def test_any_graph_ends_in_the_state_that_its_failures_imply(drawn: tuple[Dag, set[str]], random: object) -> None:
    dag, failing = drawn
    observer = Collector()
    graph = Graph(Pipeline("p", Component("root", NOTHING, NOTHING, dag), {"leaf": LEAF}, {}), Inputs(), observer)
    graph.start()
    while observer.launched:
        observer.launched.rotate(random.randrange(12))  # type: ignore[attr-defined]
        leaf = observer.launched.popleft()
        assert all(name in observer.ended for name in leaf.task.upstream)
        graph.finish(leaf, State.FAILED if leaf.name in failing else State.SUCCEEDED, Outputs())
    expected: dict[str, State] = {}
    for name, each in dag.tasks.items():
        if not each.when_completed and any(not expected[up].success for up in each.upstream):
            expected[name] = State.NOT_TRIGGERED
        else:
            expected[name] = State.FAILED if name in failing else State.SUCCEEDED
    assert {name: node.state for name, node in graph.root.children.items()} == expected
    assert graph.root.state is (State.FAILED if State.FAILED in expected.values() else State.SUCCEEDED)
    assert len(set(observer.started)) == len(observer.started)
    assert sorted(observer.ended) == sorted(["", *dag.tasks])


@given(st.integers(0, 30), st.integers(0, 5), st.integers(0, 40))
def test_loops_keep_their_limit_and_cancelling_leaves_nothing_open(items: int, limit: int, cancel_after: int) -> None:
    loop = task("loop", frozenset(), iterator=Iterator("parameter", "item", raw=str(list(range(items))), limit=limit))
    root = Component("root", NOTHING, NOTHING, Dag({"loop": loop}, {}, {}))
    observer = Collector()
    graph = Graph(Pipeline("p", root, {"leaf": LEAF}, {}), Inputs(), observer)
    graph.start()
    finished = 0
    while observer.launched:
        assert len(observer.launched) <= (limit or items)
        if finished == cancel_after:
            graph.cancel()
        state = State.CANCELLED if graph.cancelled else State.SUCCEEDED
        graph.finish(observer.launched.popleft(), state, Outputs())
        finished += 1
    assert graph.root.state is (State.CANCELLED if cancel_after < items else State.SUCCEEDED)
    assert len(graph.root.children["loop"].children) == items
    assert all(child.state.final for child in graph.root.children["loop"].children.values())


def test_a_chain_of_thousands_does_not_exhaust_the_stack() -> None:
    tasks = {f"t{i}": task(f"t{i}", frozenset({f"t{i - 1}"} if i else ())) for i in range(5000)}
    observer = Collector()
    root = Component("root", NOTHING, NOTHING, Dag(tasks, {}, {}))
    graph = Graph(Pipeline("p", root, {"leaf": LEAF}, {}), Inputs(), observer)
    graph.start()
    graph.finish(observer.launched.popleft(), State.FAILED, Outputs())
    assert graph.root.state is State.FAILED
    assert len(observer.ended) == 5001
