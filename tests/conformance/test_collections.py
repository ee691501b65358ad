"""Protects what is gathered from loops and chosen among branches: `Collected` and `OneOf`, at every depth."""

from typing import Any

import pytest
from kfp import dsl
from kfp.dsl import Collected, Dataset

from tests.conformance.support import Conformance
from tests.localvertex.engine.pieces import flag, join, listing, number, read_all, real, say, show, table, write


@pytest.mark.parametrize(
    ("task", "output", "items"),
    [
        (number, "result", [1, 2]),
        (real, "result", [0.5, 1.0]),
        (flag, "result", [True, False]),
        (listing, "result", [[1], []]),
        (table, "result", [{"a": 1}, {}]),
    ],
)
def test_parameters_of_every_type_are_collected_in_order(
    run: Conformance, task: Any, output: str, items: list[Any]
) -> None:
    @dsl.pipeline(name="types")
    def pipeline() -> list:
        with dsl.ParallelFor([{"value": item} for item in items]) as item:
            made = task(value=item.value)
        return Collected(made.outputs[output])

    ran = f"for-loop-2/0/{task.name} for-loop-2/1/{task.name}"
    run(pipeline, ran=ran, outputs={"Output": items})


def test_what_is_collected_is_read_by_a_task_and_returned(run: Conformance) -> None:
    @dsl.pipeline(name="both")
    def pipeline() -> list:
        with dsl.ParallelFor(["b", "a"]) as word:
            made = say(text=word)
        join(texts=Collected(made.output))
        return Collected(made.output)

    ran = "for-loop-2/0/say for-loop-2/1/say join"
    result = run(pipeline, ran=ran, outputs={"Output": ["b", "a"]})
    assert result.output("join", "joined") == '["b", "a"]'


def test_parameters_collected_from_three_loops_deep(run: Conformance) -> None:
    @dsl.pipeline(name="deep")
    def pipeline() -> str:
        with dsl.ParallelFor(["a", "b"]) as x, dsl.ParallelFor(["c", "d"]) as y, dsl.ParallelFor(["e"]) as z:
            made = say(text=f"{x}{y}{z}")
        return join(texts=Collected(made.output)).output

    result = run.bench.run(pipeline)
    assert result.output("") == '[[["ace"], ["ade"]], [["bce"], ["bde"]]]'
    assert len(result.executed()) == 5


def test_artifacts_collected_from_two_loops_deep_are_one_list(run: Conformance) -> None:
    @dsl.pipeline(name="files")
    def pipeline() -> str:
        with dsl.ParallelFor(["a", "b"]) as x, dsl.ParallelFor(["c", "d"]) as y:
            made = write(text=f"{x}{y}")
        return read_all(files=Collected(made.output)).output

    result = run.bench.run(pipeline)
    assert (result.state, result.output("")) == ("SUCCEEDED", "ac,ad,bc,bd")


def test_a_pipeline_returns_a_list_of_artifacts(run: Conformance) -> None:
    @dsl.pipeline(name="list-of-files")
    def pipeline() -> list[Dataset]:
        with dsl.ParallelFor(["a", "b"]) as x:
            made = write(text=x)
        return Collected(made.output)

    run(pipeline, ran="for-loop-2/0/write for-loop-2/1/write", outputs={"Output": ["a", "b"]})


def test_a_loop_goes_on_over_what_another_collected(run: Conformance) -> None:
    @dsl.pipeline(name="chain")
    def pipeline() -> list:
        with dsl.ParallelFor(["a", "b"]) as word:
            first = say(text=word)
        with dsl.ParallelFor(listing(value=Collected(first.output)).output) as word:
            second = say(text=f"{word}{word}")
        return Collected(second.output)

    result = run.bench.run(pipeline)
    assert (result.state, result.output("")) == ("SUCCEEDED", ["aa", "bb"])


def test_iterations_whose_branch_was_not_taken_add_nothing(run: Conformance) -> None:
    @dsl.pipeline(name="gaps")
    def pipeline(words: list = ["a", "b", "c"]) -> list:  # noqa: B006
        with dsl.ParallelFor(words) as word, dsl.If(word != "b"):
            made = say(text=word)
        return Collected(made.output)

    ran = "for-loop-1/0/condition-2/say for-loop-1/2/condition-2/say"
    states = {"for-loop-1/1": "SUCCEEDED", "for-loop-1/1/condition-2": "NOT_TRIGGERED"}
    run(pipeline, ran=ran, states=states, outputs={"Output": ["a", "c"]})


@pytest.mark.parametrize(("go", "expected"), [(True, "yes"), (False, "no")])
def test_one_of_two_parameters_goes_on(run: Conformance, go: bool, expected: str) -> None:
    @dsl.pipeline(name="one-of")
    def pipeline(go: bool) -> str:
        with dsl.If(go == True):  # noqa: E712
            yes = say(text="yes")
        with dsl.Else():
            no = say(text="no")
        return say(text=dsl.OneOf(yes.output, no.output)).set_caching_options(False).output

    taken, other, task = (2, 3, "say") if go else (3, 2, "say-2")
    branch = "condition-branches-1/condition"
    states = {f"{branch}-{other}": "NOT_TRIGGERED"}
    ran = f"{branch}-{taken}/{task} say-3"
    run(pipeline, parameters={"go": go}, ran=ran, states=states, outputs={"Output": expected})


@pytest.mark.parametrize("big", [True, False])
def test_a_nested_pipeline_returns_one_of_its_artifacts(run: Conformance, big: bool) -> None:
    @dsl.pipeline(name="inner")
    def inner(big: bool) -> Dataset:
        with dsl.If(big == True):  # noqa: E712
            a = write(text="BIG")
        with dsl.Else():
            b = write(text="small")
        return dsl.OneOf(a.output, b.output)

    @dsl.pipeline(name="outer")
    def outer(big: bool) -> str:
        return show(source=inner(big=big).output).output

    taken, other, task = (2, 3, "write") if big else (3, 2, "write-2")
    branch = "inner/condition-branches-1/condition"
    states = {f"{branch}-{other}": "NOT_TRIGGERED"}
    outputs = {"Output": "BIG" if big else "small"}
    run(outer, parameters={"big": big}, ran=f"{branch}-{taken}/{task} show", states=states, outputs=outputs)


def test_one_of_the_branches_in_each_iteration_is_collected(run: Conformance) -> None:
    @dsl.pipeline(name="each")
    def each(word: str) -> str:
        with dsl.If(word == "a"):
            a = say(text="A")
        with dsl.Else():
            b = say(text=f"other {word}")
        return dsl.OneOf(a.output, b.output)

    @dsl.pipeline(name="every")
    def every() -> list:
        with dsl.ParallelFor(["a", "b", "c"]) as word:
            chosen = each(word=word)
        return Collected(chosen.output)

    result = run.bench.run(every)
    assert (result.state, result.output("")) == ("SUCCEEDED", ["A", "other b", "other c"])
    assert list(result.states.values()).count("NOT_TRIGGERED") == 3
