"""Protects pipelines in pipelines: what goes in, what comes out, and that each stands alone."""

from typing import NamedTuple

from kfp import dsl
from kfp.dsl import Artifact, Dataset, Input

from tests.conformance.support import Conformance
from tests.localvertex.engine.pieces import copy, listing, number, say, show, table, wait, write


class Pair(NamedTuple):
    text: str
    file: Dataset


@dsl.pipeline(name="inner")
def inner(text: str, suffix: str = "!") -> Pair:  # type: ignore
    said = say(text=f"{text}{suffix}")
    return Pair(said.output, write(text=said.output).output)


def test_parameters_and_artifacts_come_out_of_a_nested_pipeline(run: Conformance) -> None:
    @dsl.pipeline(name="outer")
    def outer() -> Pair:  # type: ignore
        nested = inner(text="in")
        return Pair(nested.outputs["text"], copy(source=nested.outputs["file"]).output)

    result = run(outer, ran="inner/say inner/write copy", outputs={"text": "in!", "file": "in!"})
    assert result.tasks["write"].parent_task_id == result.tasks["inner"].task_id


def test_the_same_pipeline_twice(run: Conformance) -> None:
    @dsl.pipeline(name="twice")
    def outer(suffix: str = "?") -> str:
        first = inner(text="a")
        second = inner(text=first.outputs["text"], suffix=suffix)
        return show(source=second.outputs["file"]).output

    ran = "inner/say inner/write inner-2/say inner-2/write show"
    run(outer, ran=ran, outputs={"Output": "a!?"})


def test_artifacts_go_into_a_nested_pipeline(run: Conformance) -> None:
    @dsl.pipeline(name="reads")
    def reads(source: Input[Artifact], times: int) -> str:
        return say(text=f"{show(source=source).output}{times}").output

    @dsl.pipeline(name="outer")
    def outer() -> str:
        return reads(source=write(text="w").output, times=number(value=2).output).output

    run(outer, ran="write number reads/show reads/say", outputs={"Output": "w2"})


def test_three_deep_with_defaults_at_each_level(run: Conformance) -> None:
    @dsl.pipeline(name="c")
    def c(x: str = "c", items: list = [1]) -> dict:  # noqa: B006
        return table(value={"x": x, "items": [f"{listing(value=items).output}"]}).output

    @dsl.pipeline(name="b")
    def b(x: str = "b") -> dict:
        c(x=x)
        return c(items=["own"]).output

    @dsl.pipeline(name="a")
    def a() -> dict:
        return b().output

    ran = "b/c/listing b/c/table b/c-2/listing b/c-2/table"
    result = run(a, ran=ran, outputs={"Output": {"x": "c", "items": ['["own"]']}})
    assert result.output("b/c/table", "result") == {"x": "b", "items": ["[1]"]}


def test_loops_and_conditions_of_a_nested_pipeline_use_its_own_inputs(run: Conformance) -> None:
    @dsl.pipeline(name="loop")
    def loop(words: list, skip: str) -> list:
        with dsl.ParallelFor(words) as word, dsl.If(word != skip):
            made = say(text=word)
        return dsl.Collected(made.output)

    @dsl.pipeline(name="outer")
    def outer(words: list = ["outer"], skip: str = "outer") -> list:  # noqa: B006
        return loop(words=listing(value=["a", "b"]).output, skip="a").output

    states = {"loop/for-loop-1/0": "SUCCEEDED", "loop/for-loop-1/0/condition-2": "NOT_TRIGGERED"}
    ran = "listing loop/for-loop-1/1/condition-2/say"
    run(outer, ran=ran, states=states, outputs={"Output": ["b"]})


def test_a_nested_pipeline_in_a_loop_and_in_a_branch(run: Conformance) -> None:
    @dsl.pipeline(name="outer")
    def outer(go: bool = True) -> list:
        with dsl.ParallelFor(["a", "b"]) as word, dsl.If(go == True):  # noqa: E712
            nested = inner(text=word)
        return dsl.Collected(nested.outputs["text"])

    ran = " ".join(f"for-loop-2/{i}/condition-3/inner/{task}" for i in (0, 1) for task in ("say", "write"))
    run(outer, ran=ran, outputs={"Output": ["a!", "b!"]})


def test_what_comes_after_a_nested_pipeline_waits_for_all_of_it(run: Conformance) -> None:
    @dsl.pipeline(name="slow")
    def slow() -> str:
        wait(seconds=0.2)
        return say(text="quick").output

    @dsl.pipeline(name="outer")
    def outer() -> None:
        write(text="late").after(slow())

    result = run(outer, ran="slow/wait slow/say write")
    assert result.records["slow/wait"].ended <= result.records["write"].started


def test_independent_tasks_run_at_the_same_time(run: Conformance) -> None:
    @dsl.pipeline(name="side-by-side")
    def outer() -> None:
        for _ in range(3):
            wait(seconds=0.5).set_caching_options(False)

    result = run(outer, ran="wait wait-2 wait-3")
    starts = [record.started for path, record in result.records.items() if path]
    ends = [record.ended for path, record in result.records.items() if path]
    assert max(starts) < min(ends)
