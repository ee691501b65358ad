"""Protects the engine's effort: statements grow with tasks and no faster, and no run waits for another's tasks."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import sqlalchemy as sa
from google.cloud.aiplatform_v1.types import CancelPipelineJobRequest, PipelineState
from kfp import dsl

from localvertex.engine.values import State
from localvertex.workloads.slots import Slots
from tests.localvertex.engine import pieces
from tests.localvertex.engine.support import Bench

CACHED, EXECUTED = 16, 28
"""Statements that a task in a loop may cost, without the savepoints around them."""


@dsl.pipeline
def loop(items: list[int]):
    with dsl.ParallelFor(items) as item:
        pieces.number(value=item)


@dsl.pipeline
def waits():
    for _ in range(3):
        pieces.wait(seconds=60.0)


@contextmanager
def statements(bench: Bench) -> Iterator[list[str]]:
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "SAVEPOINT" not in statement:
            found.append(statement)

    sa.event.listen(bench.store.engine, "before_cursor_execute", note)
    yield found
    sa.event.remove(bench.store.engine, "before_cursor_execute", note)


def until(condition: Callable[[], bool]) -> None:
    while not condition():
        time.sleep(0.02)


def test_a_task_costs_no_more_in_a_wide_loop(bench: Bench) -> None:
    assert (effort(bench, range(20, 40), executed=20) - effort(bench, range(5), executed=5)) / 15 <= EXECUTED


def test_a_cached_task_costs_no_more_in_a_wide_loop(bench: Bench) -> None:
    bench.run(loop, parameters={"items": list(range(20))})
    assert (effort(bench, range(20), executed=0) - effort(bench, range(5), executed=0)) / 15 <= CACHED


def effort(bench: Bench, items: range, executed: int) -> int:
    with statements(bench) as found:
        result = bench.run(loop, parameters={"items": list(items)})
    assert len(result.executed()) == executed
    return len(found)


def test_a_run_that_waits_for_room_can_be_cancelled_and_shows_its_tasks(bench: Bench) -> None:
    bench.engine.slots.close()
    bench.engine.slots = Slots(busy=1, most=1)
    first = bench.submit(waits, "first")
    until(lambda: State.RUNNING in leaves(bench, first))
    second = bench.submit(waits, "second")
    until(lambda: len(leaves(bench, second)) == 3)
    assert sorted(leaves(bench, first)) == [State.PENDING, State.PENDING, State.RUNNING]
    assert leaves(bench, second) == [State.PENDING] * 3
    bench.service.cancel_pipeline_job(CancelPipelineJobRequest(name=second))
    bench.engine.join(second)
    assert bench.get(second).state == PipelineState.PIPELINE_STATE_CANCELLED
    assert State.RUNNING in leaves(bench, first)


def leaves(bench: Bench, job: str) -> list[State]:
    return [record.state for path, record in bench.engine.journal.of(job).items() if path]
