"""Protects caching as pipelines ask for it: task by task, with keys, in loops, branches and nested pipelines."""

from typing import Any

from kfp import dsl

from tests.conformance.support import Conformance
from tests.localvertex.engine.pieces import number, say, show, write


def test_caching_is_switched_off_task_by_task(run: Conformance) -> None:
    @dsl.pipeline(name="some")
    def pipeline() -> None:
        show(source=write(text="a").set_caching_options(False).output)
        say(text="b")

    run(pipeline, ran="write show say")
    run(pipeline, ran="write", states={"show": "SKIPPED", "say": "SKIPPED"})


def test_a_key_of_its_own_decides_for_a_task(run: Conformance) -> None:
    def keyed(text: str, key: str) -> Any:
        @dsl.pipeline(name="keyed")
        def pipeline() -> str:
            return say(text=text).set_caching_options(True, cache_key=key).output

        return pipeline

    run(keyed("first", "k"), ran="say", outputs={"Output": "first"})
    run(keyed("second", "k"), ran="", states={"say": "SKIPPED"}, outputs={"Output": "first"})
    run(keyed("second", "l"), ran="say", outputs={"Output": "second"})


def test_iterations_are_cached_one_by_one(run: Conformance) -> None:
    @dsl.pipeline(name="loop")
    def pipeline(words: list) -> list:
        with dsl.ParallelFor(words) as word:
            made = say(text=word)
        return dsl.Collected(made.output)

    first, second = "for-loop-1/0/say", "for-loop-1/1/say"
    run(pipeline, parameters={"words": ["a"]}, ran=first, outputs={"Output": ["a"]})
    states = {second: "SKIPPED", "for-loop-1/1": "SUCCEEDED"}
    run(pipeline, parameters={"words": ["b", "a"]}, ran=first, states=states, outputs={"Output": ["b", "a"]})


def test_conditions_are_decided_anew_on_cached_outputs(run: Conformance) -> None:
    @dsl.pipeline(name="branch")
    def pipeline(limit: int) -> None:
        with dsl.If(number(value=3).output > limit):
            say(text="more")

    run(pipeline, parameters={"limit": 2}, ran="number condition-1/say")
    run(pipeline, parameters={"limit": 5}, ran="", states={"number": "SKIPPED", "condition-1": "NOT_TRIGGERED"})
    states = {"number": "SKIPPED", "condition-1": "SUCCEEDED", "condition-1/say": "SKIPPED"}
    run(pipeline, parameters={"limit": 2}, ran="", states=states)


def test_a_nested_pipeline_answers_for_the_same_task_elsewhere(run: Conformance) -> None:
    @dsl.pipeline(name="inner")
    def inner(text: str) -> str:
        return say(text=text).output

    @dsl.pipeline(name="alone")
    def alone() -> str:
        return say(text="same").output

    @dsl.pipeline(name="outer")
    def outer() -> str:
        return inner(text="same").set_caching_options(False).output

    run(alone, ran="say", outputs={"Output": "same"})
    states = {"inner": "SUCCEEDED", "inner/say": "SKIPPED"}
    run(outer, ran="", states=states, outputs={"Output": "same"})


def test_the_environment_counts(run: Conformance) -> None:
    def coloured(colour: str) -> Any:
        @dsl.pipeline(name="coloured")
        def pipeline() -> None:
            say(text="x").set_env_variable("COLOUR", colour)

        return pipeline

    run(coloured("blue"), ran="say")
    run(coloured("blue"), ran="", states={"say": "SKIPPED"})
    run(coloured("red"), ran="say")
