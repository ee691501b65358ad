"""Protects loops: over what they go, what their bodies may use, how they nest, their limit, and how they fail."""

from typing import Any

import pytest
from kfp import dsl
from kfp.dsl import Dataset

from tests.conformance.support import Conformance
from tests.localvertex.engine.pieces import fail, listing, number, say, show, table, wait, write


def said(result: Any, task: str = "say", output: str = "said") -> list[Any]:
    """What the task of that name said in each iteration, in the order of their paths."""
    paths = sorted(path for path in result.states if path.split("/")[-1] == task)
    return [result.output(path, output) for path in paths]


@pytest.mark.parametrize("source", ["constant", "parameter", "output"])
def test_a_loop_over_texts_from_anywhere(run: Conformance, source: str) -> None:
    @dsl.pipeline(name="texts")
    def pipeline(words: list = ["a", "b"]) -> None:  # noqa: B006
        items: Any = {"constant": ["a", "b"], "parameter": words}.get(source) or listing(value=words).output
        with dsl.ParallelFor(items) as item:
            say(text=item)

    loop = "for-loop-2" if source == "constant" else "for-loop-1"
    ran = f"{loop}/0/say {loop}/1/say" + (" listing" if source == "output" else "")
    assert said(run(pipeline, ran=ran)) == ["a", "b"]


def test_a_loop_over_numbers(run: Conformance) -> None:
    @dsl.pipeline(name="numbers")
    def pipeline(counts: list[int] = [5, 6]) -> None:  # noqa: B006
        with dsl.ParallelFor(counts) as count:
            number(value=count)

    assert said(run(pipeline, ran="for-loop-1/0/number for-loop-1/1/number"), "number", "result") == [5, 6]


def test_a_loop_over_tables_and_their_fields(run: Conformance) -> None:
    @dsl.pipeline(name="tables")
    def pipeline() -> None:
        with dsl.ParallelFor([{"first": 1, "then": 2}, {"first": 3, "then": 4}]) as item:
            number(value=item.first)
            number(value=item.then)
            table(value=item)

    ran = " ".join(f"for-loop-2/{index}/{task}" for index in (0, 1) for task in ("number", "number-2", "table"))
    result = run(pipeline, ran=ran)
    assert (said(result, "number", "result"), said(result, "number-2", "result")) == ([1, 3], [2, 4])
    assert said(result, "table", "result") == [{"first": 1, "then": 2}, {"first": 3, "then": 4}]


def test_a_loop_over_a_list_of_unknown_type_has_texts_for_items(run: Conformance) -> None:
    @dsl.pipeline(name="unknown")
    def pipeline(items: list = [{"n": 1}, ["x"], 7, "text"]) -> None:  # noqa: B006
        with dsl.ParallelFor(items) as item:
            say(text=item)

    ran = " ".join(f"for-loop-1/{index}/say" for index in range(4))
    assert said(run(pipeline, ran=ran)) == ['{"n": 1}', '["x"]', "7", "text"]


def test_fields_of_tables_that_a_task_made(run: Conformance) -> None:
    @dsl.pipeline(name="made")
    def pipeline() -> None:
        with dsl.ParallelFor(listing(value=[{"a": {"b": 1}}, {"a": {"b": 2}}]).output) as item:
            table(value=item.a)

    ran = "listing for-loop-1/0/table for-loop-1/1/table"
    assert said(run(pipeline, ran=ran), "table", "result") == [{"b": 1}, {"b": 2}]


def test_a_loop_over_nothing(run: Conformance) -> None:
    @dsl.pipeline(name="nothing")
    def pipeline(words: list = []) -> list:  # noqa: B006
        with dsl.ParallelFor(words) as word:
            made = say(text=word)
        return dsl.Collected(made.output)

    run(pipeline, ran="", states={"for-loop-1": "SUCCEEDED"}, outputs={"Output": []})


def test_a_body_uses_outputs_and_artifacts_from_outside(run: Conformance) -> None:
    @dsl.pipeline(name="outside")
    def pipeline(suffix: str = "!") -> None:
        text, file = say(text="t"), write(text="f")
        with dsl.ParallelFor(["a", "b"]) as word:
            inner = say(text=f"{text.output}{word}{suffix}")
            show(source=file.output).after(inner)

    ran = "say write for-loop-2/0/say-2 for-loop-2/1/say-2"
    # The second one to show the file is answered from the cache, unless both ask at the same time.
    result = run.bench.run(pipeline)
    assert set(ran.replace("/", ".").split()) <= set(result.executed())
    assert said(result, "say-2") == ["ta!", "tb!"]
    assert said(result, "show", "text") == ["f", "f"]


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_loops_nest_and_see_everything_around_them(run: Conformance, limit: int) -> None:
    @dsl.pipeline(name="nested")
    def pipeline(words: list = ["a", "b"]) -> list:  # noqa: B006
        outer = say(text="o")
        with dsl.ParallelFor(words, parallelism=limit) as word:
            middle = say(text=f"{outer.output}{word}")
            with dsl.ParallelFor([1, 2], parallelism=limit) as index:
                inner = say(text=f"{middle.output}{word}{index}{outer.output}")
        return dsl.Collected(inner.output)

    # The compiler numbers the loops; both are looked for.
    result = run.bench.run(pipeline)
    assert result.output("") == [["oaa1o", "oaa2o"], ["obb1o", "obb2o"]]
    assert len(result.executed()) == 1 + 2 + 4
    assert set(result.states.values()) == {"SUCCEEDED"}


def test_loops_over_parts_of_the_items_of_others(run: Conformance) -> None:
    @dsl.pipeline(name="signs")
    def signs(cell: str) -> list:
        with dsl.ParallelFor(["x", "y"]) as sign:
            made = say(text=f"{cell}{sign}")
        return dsl.Collected(made.output)

    @dsl.pipeline(name="deep")
    def pipeline() -> list:
        rows = listing(value=[{"cells": ["1", "2"]}, {"cells": ["3"]}])
        with dsl.ParallelFor(rows.output) as row, dsl.ParallelFor(row.cells) as cell:
            made = signs(cell=cell)
        return dsl.Collected(made.output)

    result = run.bench.run(pipeline)
    assert result.output("") == [[["1x", "1y"], ["2x", "2y"]], [["3x", "3y"]]]
    assert len(result.executed()) == 1 + 6


@dsl.pipeline(name="make-files")
def make_files(words: list) -> list[Dataset]:
    with dsl.ParallelFor(words) as text:
        made = write(text=text)
    return dsl.Collected(made.output)


def test_a_loop_over_artifacts(run: Conformance) -> None:
    @dsl.pipeline(name="over-files")
    def pipeline(mark: str = "m") -> list:
        files = make_files(words=["p", "q"])
        with dsl.ParallelFor(files.output, parallelism=1) as file:
            shown = show(source=file)
            say(text=f"{shown.output}{mark}")
        return dsl.Collected(shown.outputs["text"])

    made = "make-files/for-loop-1/0/write make-files/for-loop-1/1/write"
    ran = f"{made} for-loop-1/0/show for-loop-1/0/say for-loop-1/1/show for-loop-1/1/say"
    assert said(run(pipeline, ran=ran, outputs={"Output": ["p", "q"]})) == ["pm", "qm"]


def test_the_limit_of_a_loop_is_kept_and_used(run: Conformance) -> None:
    @dsl.pipeline(name="limited")
    def pipeline() -> None:
        with dsl.ParallelFor([0.05, 0.06, 0.07, 0.08], parallelism=2) as seconds:
            wait(seconds=seconds)

    result = run(pipeline, ran=" ".join(f"for-loop-2/{index}/wait" for index in range(4)))
    spans = [(record.started, record.ended) for path, record in result.records.items() if path.endswith("/wait")]
    assert max(sum(start <= moment < end for start, end in spans) for moment, _ in spans) == 2


def test_a_failing_iteration_fails_the_loop_and_leaves_the_others_alone(run: Conformance) -> None:
    @dsl.pipeline(name="failing")
    def pipeline() -> None:
        with dsl.ParallelFor(["0", "1", "0"], parallelism=1) as code:
            last = exits(code=code)
            say(text=f"after {code}").after(last)
        say(text="never").after(last)

    ran = " ".join(f"for-loop-2/{index}/exits" for index in range(3)) + " for-loop-2/0/say"
    states = {
        "for-loop-2": "FAILED",
        "for-loop-2/1": "FAILED",
        "for-loop-2/1/exits": "FAILED",
        "for-loop-2/1/say": "NOT_TRIGGERED",
        "for-loop-2/2/exits": "SKIPPED",
        "for-loop-2/2/say": "SKIPPED",
        "say-2": "NOT_TRIGGERED",
    }
    result = run.bench.run(pipeline)
    assert result.state == "FAILED"
    assert {**result.states, **states} == result.states
    assert set(result.executed()) == {path.replace("/", ".") for path in ran.split()} - {"for-loop-2.2.exits"}


@dsl.container_component
def exits(code: str):
    return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", 'exit "$0"'], args=[code])


def test_what_comes_after_a_loop_waits_for_all_of_it(run: Conformance) -> None:
    @dsl.pipeline(name="after")
    def pipeline() -> None:
        with dsl.ParallelFor([0.01, 0.2]) as seconds:
            last = wait(seconds=seconds)
        say(text="done").after(last)

    result = run(pipeline, ran="for-loop-2/0/wait for-loop-2/1/wait say")
    ends = [record.ended for path, record in result.records.items() if path.endswith("/wait")]
    assert max(ends) <= result.records["say"].started


def test_items_that_are_no_list_fail_the_loop_by_name(run: Conformance) -> None:
    @dsl.container_component
    def silent(items: dsl.OutputPath(list)):  # type: ignore
        return dsl.ContainerSpec(image="alpine:3", command=["true"], args=[items])

    @dsl.pipeline(name="no-list")
    def pipeline() -> None:
        with dsl.ParallelFor(silent().output) as item:
            fail(message=item)

    result = run(pipeline, ran="silent", states={"for-loop-1": "FAILED"}, ends="FAILED")
    assert "for-loop-1: " in result.job.error.message
