"""Protects the rules of running: whatever the DAG and whichever task ends first, all ends as plain rules say."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from zlib import crc32

import pytest
from google.cloud.aiplatform_v1.types import CancelPipelineJobRequest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from localvertex import names
from localvertex.engine import conditions
from localvertex.engine.dag import Graph, Node
from localvertex.engine.spec import read
from localvertex.engine.values import Inputs, Outputs, State
from tests.localvertex.engine.plans import (
    CANCELLED,
    FAILED,
    GOOD,
    NOT_TRIGGERED,
    SKIPPED,
    SUCCEEDED,
    Ending,
    Plan,
    Prediction,
    compiled,
    leaves,
    random_plan,
    together,
)
from tests.localvertex.engine.support import Bench, Result
from tests.localvertex.processes import workloads

# The first expression raises the recursion limit, which must not happen inside of an example.
conditions.check("true")

RANDOMS = st.randoms(use_true_random=False)
PLANS = RANDOMS.map(random_plan)
NEVER = 10**9


Endings = Callable[[str, Mapping[str, int]], Ending]


def endings(salt: int, failures: int) -> Endings:
    """How each leaf ends: so many in ten fail, some are cached."""

    def ending(path: str, items: Mapping[str, int]) -> Ending:
        drawn = crc32(f"{salt} {path}".encode())
        state = FAILED if drawn % 10 < failures else SKIPPED if drawn % 10 == 9 else SUCCEEDED
        return Ending(state, drawn // 10 % 2)

    return ending


class Simulation:
    """Drives a graph: ends its leaves in a random order, and writes down what happens.

    Args:
        endings: how leaves end.
        random: which leaf ends next.
        earlier: the same run, interrupted: what had ended there ends the same way here.
    """

    def __init__(
        self,
        plan: Plan,
        endings: Endings,
        random: Random,
        fail_fast: bool = False,
        earlier: Mapping[str, Node] | None = None,
    ) -> None:
        self._earlier = earlier or {}
        states = {path: node.state for path, node in self._earlier.items()}
        self.graph = Graph(read(compiled(plan)), Inputs(), self, fail_fast=fail_fast, earlier=states)
        self._endings = endings
        self._random = random
        self.running: list[Node] = []
        self.nodes: dict[str, Node] = {}
        self.entered: dict[str, int] = {}
        """When DAGs, loops and leaves began; like all moments here, a count of events."""
        self.ended: dict[str, int] = {}
        self.first_failure = self.cancelled = NEVER
        self._clock = 0

    def begin(self, node: Node) -> None:
        self._enter(node)

    def launch(self, node: Node) -> None:
        self._enter(node)
        self.running.append(node)

    def end(self, node: Node) -> None:
        assert node.path not in self.ended, f"{node.path} ended twice"
        self.nodes[node.path] = node
        self.ended[node.path] = self._tick()
        if node.state is State.FAILED:
            self.first_failure = min(self.first_failure, self.ended[node.path])

    def run(self, cancel_after: int = -1, interrupt_after: int = -1) -> Simulation:
        """Until the run has ended; cancelled or interrupted after so many leaves have."""
        self.graph.start()
        done = 0
        while self.running and done != interrupt_after:
            if done == cancel_after:
                self.cancelled = self._tick()
                self.graph.cancel()
            leaf = self.running.pop(self._random.randrange(len(self.running)))
            self.graph.finish(leaf, *self._ending(leaf))
            done += 1
        assert self.graph.root.state.final or done == interrupt_after
        if self.running and self._random.random() < 0.5:
            # It is written down as ended, and nobody has acted on it.
            leaf = self._random.choice(self.running)
            leaf.state, leaf.outputs = self._ending(leaf)
        return self

    def _ending(self, leaf: Node) -> tuple[State, Outputs]:
        before = self._earlier.get(leaf.path)
        if before is not None and before.state.final:
            return before.state, before.outputs
        if self.cancelled < NEVER and self._random.random() < 0.7:
            return State.CANCELLED, Outputs()
        ending = self._endings(leaf.path, {})
        return State[ending.state], Outputs({"out": ending.output} if ending.state in GOOD else {})

    @property
    def states(self) -> dict[str, str]:
        return {path: node.state.name for path, node in self.nodes.items()}

    def _enter(self, node: Node) -> None:
        assert node.path not in self.entered, f"{node.path} started twice"
        self.nodes[node.path] = node
        self.entered[node.path] = self._tick()
        above: Node | None = node
        while above is not None and above.parent is not None:
            self._check_order(above)
            above = above.parent

    def _check_order(self, node: Node) -> None:
        assert node.parent is not None
        if node.parent.iterator is None:
            siblings = node.parent.children
            assert all(siblings[name].state.final for name in node.task.upstream), f"{node.path} came too early"
        elif node.parent.iterator.limit:
            open_ = [child for child in node.parent.children.values() if child.state is State.RUNNING]
            assert len(open_) <= node.parent.iterator.limit, f"{node.parent.path} has too many iterations under way"

    def _tick(self) -> int:
        self._clock += 1
        return self._clock


def exempt(node: Node) -> bool:
    """Whether a task, or one that it is part of, runs whatever came before."""
    return node.task.when_completed or (node.parent is not None and exempt(node.parent))


@settings(max_examples=300, deadline=None)
@given(PLANS, st.integers(0, 99), st.integers(0, 4), RANDOMS)
def test_a_run_ends_as_the_rules_say_in_any_order_of_ends(plan: Plan, salt: int, failures: int, random: Random) -> None:
    prediction = Prediction(endings(salt, failures))
    expected = prediction.of(plan)
    simulation = Simulation(plan, endings(salt, failures), random).run()
    assert simulation.states == prediction.states
    assert simulation.states[""] == expected
    for path, node in simulation.nodes.items():
        if node.state.success and path:
            assert node.outputs.parameters.get("out") == prediction.outputs.get(path)


@settings(max_examples=200, deadline=None)
@given(PLANS, st.integers(0, 99), RANDOMS)
def test_failing_fast_starts_nothing_after_a_failure(plan: Plan, salt: int, random: Random) -> None:
    simulation = Simulation(plan, endings(salt, 2), random, fail_fast=True).run()
    for path, moment in simulation.entered.items():
        assert moment < simulation.first_failure or exempt(simulation.nodes[path]), f"{path} was started"
    check_states(simulation)
    failed = FAILED in simulation.states.values()
    assert simulation.states[""] == (FAILED if failed else SUCCEEDED)
    if not failed:
        prediction = Prediction(endings(salt, 2))
        assert prediction.of(plan) == SUCCEEDED
        assert simulation.states == prediction.states


@settings(max_examples=200, deadline=None)
@given(PLANS, st.integers(0, 99), st.integers(0, 2), st.integers(0, 12), st.booleans(), RANDOMS)
def test_cancelling_at_any_moment_starts_nothing_and_leaves_nothing_open(
    plan: Plan, salt: int, failures: int, moment: int, fail_fast: bool, random: Random
) -> None:
    simulation = Simulation(plan, endings(salt, failures), random, fail_fast).run(cancel_after=moment)
    assert all(moment < simulation.cancelled for moment in simulation.entered.values())
    assert all(node.state.final for node in simulation.nodes.values())
    assert simulation.nodes.keys() == simulation.ended.keys()
    check_states(simulation)


@settings(max_examples=200, deadline=None)
@given(PLANS, st.integers(0, 99), st.integers(0, 2), st.integers(0, 12), st.booleans(), RANDOMS)
def test_an_interrupted_run_goes_on_as_if_it_had_not_been(
    plan: Plan, salt: int, failures: int, moment: int, fail_fast: bool, random: Random
) -> None:
    outcomes = endings(salt, failures)
    first = Simulation(plan, outcomes, random, fail_fast).run(interrupt_after=moment)
    again = Simulation(plan, outcomes, random, fail_fast, earlier=first.nodes).run()
    check_states(again)
    before = {path: node.state.name for path, node in first.nodes.items() if node.state.final}
    assert {path: again.states[path] for path in before} == before
    if not fail_fast:
        prediction = Prediction(outcomes)
        prediction.of(plan)
        assert again.states == prediction.states
    elif FAILED in before.values():
        fresh = again.entered.keys() - first.entered.keys()
        assert all(exempt(again.nodes[path]) for path in fresh), "something was started after a failure"


def check_states(simulation: Simulation) -> None:
    """What DAGs and loops come to must follow from their parts, and what did not run must not have been able to."""
    states = simulation.states
    for path, node in simulation.nodes.items():
        if path not in simulation.entered:
            allowed = {NOT_TRIGGERED, FAILED} | ({CANCELLED} if simulation.cancelled < NEVER else set())
            assert states[path] in allowed, f"{path} did not run and is {states[path]}"
        elif node.children:
            assert states[path] == together(states[child.path] for child in node.children.values()), path
        if path in simulation.entered and node.parent is not None and node.parent.iterator is None:
            upstream = [states[node.parent.children[name].path] for name in node.task.upstream]
            assert node.task.when_completed or all(state in GOOD for state in upstream), f"{path} must not have run"


class Script:
    """What the leaves of a plan are to do as processes, a file each: fail some attempts at random, or all.

    Args:
        folder: for the files; leaves also leave a line a start there.
    """

    def __init__(self, plan: Plan, folder: Path, random: Random) -> None:
        self.folder = folder
        self._random = random
        self._retries = {name: step.retries for name, step in leaves(plan)}
        self.attempts: dict[str, list[tuple[int, int]]] = {}
        """Exit code and output of each attempt, by file."""
        self.started: dict[str, str] = {}
        """The file of each leaf that starts, by its path in the run."""

    def ending(self, path: str, items: Mapping[str, int]) -> Ending:
        name = next(step for step in reversed(path.split("/")) if not step.isdigit())
        file = ".".join([name, *map(str, items.values())])
        if file not in self.attempts:
            codes = [self._random.choice([0, 0, 0, 3]) for _ in range(self._retries[name] + 1)]
            self.attempts[file] = [(code, self._random.randint(0, 1)) for code in codes]
            lines = [f"{self._random.random() / 20:.3f} {code} {output}" for code, output in self.attempts[file]]
            (self.folder / file).write_text("\n".join(lines) + "\n")
        self.started[path] = file
        return next((Ending(SUCCEEDED, output) for code, output in self.attempts[file] if not code), Ending(FAILED))

    def starts(self, file: str) -> int:
        """How often a leaf was started."""
        marks = self.folder / f"{file}.starts"
        return len(marks.read_text().splitlines()) if marks.exists() else 0

    def wanted_starts(self, file: str) -> int:
        """How often a leaf is started when nothing interrupts it: until it succeeds, in each run of its loops."""
        codes = [code for code, _ in self.attempts[file]]
        attempts = codes.index(0) + 1 if 0 in codes else len(codes)
        return attempts * list(self.started.values()).count(file)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    bench = Bench(tmp_path_factory.mktemp("properties"))
    yield bench
    bench.close()


def prepared(bench: Bench, random: Random) -> tuple[Plan, Script, Prediction]:
    """A plan of a few leaves, with what it should come to; its files are there."""
    plan = random_plan(random, most=4)
    script = Script(plan, Path(tempfile.mkdtemp(dir=bench.folder)), random)
    prediction = Prediction(script.ending)
    prediction.of(plan)
    assume(0 < len(script.started) <= 12)
    return plan, script, prediction


def finished(bench: Bench, name: str) -> Result:
    bench.engine.join(name)
    return Result(bench.get(name), bench)


@settings(max_examples=12, deadline=None)
@given(random=RANDOMS)
def test_processes_end_as_the_rules_say_and_are_cached(processes: Bench, random: Random) -> None:
    plan, script, prediction = prepared(processes, random)
    spec = compiled(plan, str(script.folder), cached=True)
    first = finished(processes, processes.submit(spec, f"run-{names.new_id()}"))
    assert good(first.states) == good(prediction.states)
    once = {file for file in script.attempts if list(script.started.values()).count(file) == 1}
    assert {file: script.starts(file) for file in once} == {file: script.wanted_starts(file) for file in once}
    second = finished(processes, processes.submit(spec, f"run-{names.new_id()}"))
    assert good(second.states) == good(prediction.states)
    assert {second.states[path] for path in script.started if prediction.states[path] in GOOD} <= {SKIPPED}


@settings(max_examples=12, deadline=None)
@given(random=RANDOMS, moment=st.floats(0, 0.6), policy=st.sampled_from(["SLOW", "FAST"]))
def test_a_run_that_is_interrupted_ends_as_if_it_had_not_been(
    processes: Bench, random: Random, moment: float, policy: str
) -> None:
    plan, script, prediction = prepared(processes, random)
    config = {"failurePolicy": f"PIPELINE_FAILURE_POLICY_FAIL_{policy}"}
    name = processes.submit(compiled(plan, str(script.folder)), f"run-{names.new_id()}", **config)
    time.sleep(moment)
    processes.restart()
    result = finished(processes, name)
    assert result.state == prediction.states[""]
    if policy == "SLOW":
        assert result.states == {path: state for path, state in prediction.states.items() if path}
    for path, file in script.started.items():
        ran = result.states.get(path) in (SUCCEEDED, FAILED)
        assert script.starts(file) >= script.wanted_starts(file) or not ran or policy == "FAST"
        assert script.starts(file) == 0 or ran or list(script.started.values()).count(file) > 1


@settings(max_examples=10, deadline=None)
@given(random=RANDOMS, moment=st.floats(0, 0.4))
def test_a_run_that_is_cancelled_ends_at_once_or_as_it_would_have(
    processes: Bench, random: Random, moment: float
) -> None:
    plan, script, prediction = prepared(processes, random)
    name = processes.submit(compiled(plan, str(script.folder)), f"run-{names.new_id()}")
    time.sleep(moment)
    processes.service.cancel_pipeline_job(CancelPipelineJobRequest(name=name))
    result = finished(processes, name)
    assert not workloads(processes.home)
    if result.state != CANCELLED:
        assert result.states == {path: state for path, state in prediction.states.items() if path}
    assert all(State[state].final for state in result.states.values())


def good(states: Mapping[str, str]) -> dict[str, str]:
    """States of tasks, with those from the cache as if they had run."""
    return {path: SUCCEEDED if state in GOOD else state for path, state in states.items() if path}
