"""Protects conditions: which branch runs, in which place, and what becomes of the rest."""

from typing import Any

import pytest
from kfp import dsl
from kfp.dsl import Dataset

from tests.conformance.support import Conformance
from tests.localvertex.engine.pieces import copy, flag, number, real, say, write

NOT = "NOT_TRIGGERED"


@pytest.mark.parametrize(("value", "holds"), [(1, "< <= !="), (2, "== <= >="), (3, "> >= !=")])
def test_every_comparison(run: Conformance, value: int, holds: str) -> None:
    @dsl.pipeline(name="comparisons")
    def pipeline(value: int) -> None:
        comparisons = {"==": value == 2, "!=": value != 2, "<": value < 2, "<=": value <= 2, ">": value > 2}
        for name, comparison in {**comparisons, ">=": value >= 2}.items():
            with dsl.If(comparison):
                say(text=name)

    result = run.bench.run(pipeline, parameters={"value": value})
    said = [result.output(task.replace(".", "/"), "said") for task in result.executed()]
    assert sorted(said) == sorted(holds.split())
    assert sorted(result.states.values()) == [NOT] * (6 - len(said)) + ["SUCCEEDED"] * 2 * len(said)


@pytest.mark.parametrize(
    ("task", "value", "against"),
    [
        (say, "its own", "its own"),
        (number, 7, 7),
        (real, 0.5, 0.5),
        (real, 2.0, 2),
        (flag, True, True),
        (flag, False, False),
    ],
)
def test_conditions_on_outputs_of_every_type(run: Conformance, task: Any, value: Any, against: Any) -> None:
    @dsl.pipeline(name="types")
    def pipeline() -> None:
        made = task(text=value) if task is say else task(value=value)
        with dsl.If(made.output == against):
            say(text="yes")
        with dsl.Else():
            say(text="no")

    last = "say-2" if task is say else "say"
    branches = "condition-branches-1/condition-2"
    states = {"condition-branches-1/condition-3": NOT}
    run(pipeline, ran=f"{task.name} {branches}/{last}", states=states)


@pytest.mark.parametrize(("value", "branch", "said"), [(1, 2, "one"), (2, 3, "two"), (3, 4, "three"), (9, 5, "many")])
def test_one_branch_of_if_elif_else_runs(run: Conformance, value: int, branch: int, said: str) -> None:
    @dsl.pipeline(name="branches")
    def pipeline(value: int) -> str:
        chosen = number(value=value)
        with dsl.If(chosen.output == 1):
            a = say(text="one")
        with dsl.Elif(chosen.output == 2):
            b = say(text="two")
        with dsl.Elif(chosen.output == 3):
            c = say(text="three")
        with dsl.Else():
            d = say(text="many")
        return dsl.OneOf(a.output, b.output, c.output, d.output)

    where = "condition-branches-1"
    task = "say" if branch == 2 else f"say-{branch - 1}"
    states = {f"{where}/condition-{index}": NOT for index in range(2, 6) if index != branch}
    ran = f"number {where}/condition-{branch}/{task}"
    run(pipeline, parameters={"value": value}, ran=ran, states=states, outputs={"Output": said})


def test_conditions_in_conditions(run: Conformance) -> None:
    @dsl.pipeline(name="nested")
    def pipeline(count: int, text: str) -> None:
        with dsl.If(count > 1, "many"):
            inner = number(value=count)
            with dsl.If(inner.output < 5, "few"):
                with dsl.If(text == "go"):
                    say(text=f"{inner.output}")
                with dsl.Else():
                    say(text="stay")
            with dsl.If(inner.output == count, "same"):
                say(text="same")

    def at(count: int, text: str) -> Any:
        return {"pipeline": pipeline, "parameters": {"count": count, "text": text}}

    run(**at(0, "go"), ran="", states={"condition-1": NOT})
    branch = "condition-1/condition-2/condition-branches-3"
    ran = f"condition-1/number condition-1/condition-6/say-3 {branch}"
    run(**at(3, "go"), ran=f"{ran}/condition-4/say", states={f"{branch}/condition-5": NOT})
    run.bench.run(pipeline, parameters={"count": 3, "text": "no"})
    again = run.bench.run(pipeline, parameters={"count": 3, "text": "stop"})
    assert (again.executed(), again.states[f"{branch}/condition-5/say-2"]) == ([], "SKIPPED")


def test_conditions_over_items_of_a_loop(run: Conformance) -> None:
    @dsl.pipeline(name="items")
    def pipeline(words: list = ["a", "b", "c"]) -> None:  # noqa: B006
        with dsl.ParallelFor(words) as word, dsl.If(word != "b"):
            say(text=word)

    ran = "for-loop-1/0/condition-2/say for-loop-1/2/condition-2/say"
    run(pipeline, ran=ran, states={"for-loop-1/1": "SUCCEEDED", "for-loop-1/1/condition-2": NOT})


def test_conditions_over_fields_of_items(run: Conformance) -> None:
    @dsl.pipeline(name="fields")
    def pipeline(items: list = [{"label": "x", "size": 1}, {"label": "y", "size": 20}]) -> None:  # noqa: B006
        with dsl.ParallelFor(items) as item, dsl.If(item.size > 10):
            say(text=item.label)

    states = {"for-loop-1/0": "SUCCEEDED", "for-loop-1/0/condition-2": NOT}
    result = run(pipeline, ran="for-loop-1/1/condition-2/say", states=states)
    assert result.output("for-loop-1/1/condition-2/say", "said") == "y"


def test_conditions_over_outputs_in_the_same_iteration(run: Conformance) -> None:
    @dsl.pipeline(name="outputs")
    def pipeline(limit: int = 2) -> None:
        with dsl.ParallelFor([1, 3]) as item:
            made = number(value=item)
            with dsl.If(made.output > limit):
                say(text=f"{made.output} > {limit}")
            with dsl.Else():
                say(text="small")

    first, second = "for-loop-2/0", "for-loop-2/1"
    branches = "condition-branches-3"
    ran = f"{first}/number {first}/{branches}/condition-5/say-2 {second}/number {second}/{branches}/condition-4/say"
    states = {f"{first}/{branches}/condition-4": NOT, f"{second}/{branches}/condition-5": NOT}
    result = run(pipeline, ran=ran, states=states)
    assert result.output(f"{second}/{branches}/condition-4/say", "said") == "3 > 2"


def test_two_outputs_are_compared(run: Conformance) -> None:
    @dsl.pipeline(name="both")
    def pipeline() -> None:
        with dsl.If(number(value=3).output > number(value=2).output):
            say(text="more")

    run(pipeline, ran="number number-2 condition-1/say")


def test_a_loop_in_a_condition(run: Conformance) -> None:
    @dsl.pipeline(name="loop-in-condition")
    def pipeline(go: bool, words: list = ["a", "b"]) -> None:  # noqa: B006
        with dsl.If(go == True), dsl.ParallelFor(words) as word:  # noqa: E712
            say(text=word)

    run(pipeline, parameters={"go": False}, ran="", states={"condition-1": NOT})
    ran = "condition-1/for-loop-2/0/say condition-1/for-loop-2/1/say"
    run(pipeline, parameters={"go": True}, ran=ran)


def test_a_condition_on_the_name_of_the_run(run: Conformance) -> None:
    @dsl.pipeline(name="inner")
    def inner(name: str) -> None:
        with dsl.If(name == "run-of-mine"):
            say(text=name)

    @dsl.pipeline(name="outer")
    def outer() -> None:
        inner(name=dsl.PIPELINE_JOB_NAME_PLACEHOLDER)

    assert run.bench.run(outer, "run-of-mine").executed() == ["inner.condition-1.say"]
    assert run.bench.run(outer, "run-of-others").executed() == []


def test_what_follows_a_branch_not_taken_is_not_triggered(run: Conformance) -> None:
    @dsl.pipeline(name="followers")
    def pipeline(go: str = "no") -> None:
        with dsl.If(go == "yes"):
            first = say(text="a")
            say(text="b").after(first)

    run(pipeline, ran="", states={"condition-1": NOT})
    run(pipeline, parameters={"go": "yes"}, ran="condition-1/say condition-1/say-2")


@pytest.mark.parametrize(("big", "text", "branch"), [(True, "BIG", 2), (False, "small", 3)])
def test_one_of_several_artifacts(run: Conformance, big: bool, text: str, branch: int) -> None:
    @dsl.pipeline(name="artifacts")
    def pipeline(big: bool) -> Dataset:
        with dsl.If(big == True, "big"):  # noqa: E712
            a = write(text="BIG")
        with dsl.Else("small"):
            b = write(text="small")
        return copy(source=dsl.OneOf(a.output, b.output)).output

    where = "condition-branches-1"
    task = {2: "write", 3: "write-2"}[branch]
    states = {f"{where}/condition-{5 - branch}": NOT}
    ran = f"{where}/condition-{branch}/{task} copy"
    run(pipeline, parameters={"big": big}, ran=ran, states=states, outputs={"Output": text})


def test_a_condition_that_cannot_be_decided_fails(run: Conformance) -> None:
    @dsl.container_component
    def silent(said: dsl.OutputPath(str)):  # type: ignore
        return dsl.ContainerSpec(image="alpine:3", command=["true"], args=[said])

    @dsl.pipeline(name="undecidable")
    def pipeline() -> None:
        with dsl.If(silent().output == "x"):
            say(text="never")

    result = run(pipeline, ran="silent", states={"condition-1": "FAILED"}, ends="FAILED")
    assert "condition-1" in result.job.error.message
