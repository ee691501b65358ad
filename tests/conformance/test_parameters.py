"""Protects parameters: every type, defaults, optional inputs, values in values, and what stays as users wrote it."""

from typing import Any, NamedTuple

import pytest
from kfp import dsl

from tests.conformance.support import Conformance
from tests.localvertex.engine.pieces import flag, join, listing, number, real, say, table


@dsl.pipeline(name="texts")
def texts(value: str) -> str:
    return say(text=value).output


@dsl.pipeline(name="numbers")
def numbers(value: int) -> int:
    return number(value=value).output


@dsl.pipeline(name="reals")
def reals(value: float) -> float:
    return real(value=value).output


@dsl.pipeline(name="flags")
def flags(value: bool) -> bool:
    return flag(value=value).output


@dsl.pipeline(name="lists")
def lists(value: list) -> list:
    return listing(value=value).output


@dsl.pipeline(name="tables")
def tables(value: dict) -> dict:
    return table(value=value).output


@pytest.mark.parametrize(
    ("pipeline", "task", "value"),
    [
        (texts, "say", ""),
        (texts, "say", "a 'quoted' \"$HOME\" ñ 漢\n  second line"),
        (texts, "say", '{"looks": ["like", "JSON"]}'),
        (texts, "say", "{{$.pipeline_job_name}} is not replaced in what a user passes"),
        (numbers, "number", -3),
        (numbers, "number", 2**53),
        (reals, "real", 0.125),
        (reals, "real", 1e-12),
        (reals, "real", 4.0),
        (flags, "flag", True),
        (flags, "flag", False),
        (lists, "listing", []),
        (lists, "listing", [1, "two", 3.5, None, True, ["nested"], {"a": {}}]),
        (tables, "table", {}),
        (tables, "table", {"a": 1, "b": {"c": [1, 2.5, "x"], "d": None}, "e f": False}),
    ],
)
def test_each_type_passes_through_unchanged(run: Conformance, pipeline: Any, task: str, value: Any) -> None:
    run(pipeline, parameters={"value": value}, ran=task, outputs={"Output": value})


def test_whole_numbers_fit_both_kinds_of_number(run: Conformance) -> None:
    @dsl.pipeline(name="kinds")
    def pipeline(count: int, share: float) -> str:
        return say(text=f"{count} {share}").output

    run(pipeline, parameters={"count": 5.0, "share": 5}, ran="say", outputs={"Output": "5 5.0"})


def test_defaults_stand_in_for_what_is_not_given(run: Conformance) -> None:
    @dsl.pipeline(name="defaults")
    def pipeline(
        text: str = "t",
        count: int = 2,
        share: float = 0.5,
        sure: bool = True,
        items: list = [1],  # noqa: B006
        values: dict = {"k": [1]},  # noqa: B006
    ) -> str:
        return say(text=f"{text} {count} {share} {sure} {items} {values}").output

    run(pipeline, ran="say", outputs={"Output": 't 2 0.5 true [1] {"k": [1]}'})
    given = {"text": "", "count": 0, "sure": False, "items": []}
    run(pipeline, parameters=given, ran="say", outputs={"Output": ' 0 0.5 false [] {"k": [1]}'})


def test_a_component_has_defaults_of_its_own(run: Conformance) -> None:
    @dsl.container_component
    def told(text: dsl.OutputPath(str), word: str = "w", count: int = 3, items: list = ["a"]):  # type: ignore  # noqa: B006
        script = 'printf "%s %s %s" "$1" "$2" "$3" > "$0"'
        return dsl.ContainerSpec(image="alpine:3", command=["sh", "-c", script], args=[text, word, count, items])

    @dsl.pipeline(name="component-defaults")
    def pipeline() -> str:
        return told(word="given").outputs["text"]

    run(pipeline, ran="told", outputs={"Output": 'given 3 ["a"]'})


def test_an_optional_parameter_may_have_no_value_at_any_depth(run: Conformance) -> None:
    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def which(text: str = None, count: int = None, items: list = None) -> str:  # type: ignore  # noqa: RUF013
        return f"{text} {count} {items}"

    @dsl.pipeline(name="inner")
    def inner(text: str = None, count: int = None) -> str:  # type: ignore  # noqa: RUF013
        return which(text=text, count=count).output

    @dsl.pipeline(name="outer")
    def outer(text: str = None) -> str:  # type: ignore  # noqa: RUF013
        return inner(text=text).output

    run(outer, ran="inner/which", outputs={"Output": "None None None"})
    run(outer, parameters={"text": "x"}, ran="inner/which", outputs={"Output": "x None None"})


def test_constants_hold_outputs_of_other_tasks_at_any_depth(run: Conformance) -> None:
    @dsl.pipeline(name="inside")
    def pipeline(word: str = "w") -> dict:
        said = say(text="s")
        return table(value={"first": said.output, "then": [word, {"both": f"{word}+{said.output}"}]}).output

    expected = {"first": "s", "then": ["w", {"both": "w+s"}]}
    run(pipeline, ran="say table", outputs={"Output": expected})


def test_a_text_is_made_of_outputs_of_several_types(run: Conformance) -> None:
    @dsl.pipeline(name="mixed")
    def pipeline() -> str:
        parts = (number(value=1).output, real(value=2.0).output, flag(value=True).output, listing(value=["x"]).output)
        return say(text="{}/{}/{}/{}".format(*parts)).output

    run(pipeline, ran="number real flag listing say", outputs={"Output": '1/2.0/true/["x"]'})


def test_python_components_take_and_return_every_type(run: Conformance) -> None:
    @dsl.component(base_image="python:3.11", install_kfp_package=False)
    def types(text: str, count: int, share: float, sure: bool, items: list[int], values: dict[str, int]) -> NamedTuple(
        "Kinds", [("kinds", str), ("items", list), ("values", dict), ("sure", bool), ("share", float)]
    ):  # type: ignore
        from collections import namedtuple

        made = namedtuple("Kinds", ["kinds", "items", "values", "sure", "share"])
        kinds = " ".join(type(each).__name__ for each in (text, count, share, sure, items, values))
        return made(kinds, [*items, count], {**values, "n": 1}, not sure, share / 2)

    class Made(NamedTuple):
        kinds: str
        items: list
        values: dict
        sure: bool
        share: float

    @dsl.pipeline(name="types")
    def pipeline() -> Made:  # type: ignore
        done = types(text="t", count=7, share=3.0, sure=True, items=[1, 2], values={"a": 1})
        return Made(*(done.outputs[name] for name in ("kinds", "items", "values", "sure", "share")))

    outputs = {"kinds": "str int float bool list dict", "items": [1, 2, 7], "values": {"a": 1, "n": 1}}
    result = run(pipeline, ran="types", outputs={**outputs, "sure": False, "share": 1.5})
    assert "pip" not in result.log("types")


def test_an_input_without_a_value_fails_its_task_by_name(run: Conformance) -> None:
    @dsl.container_component
    def silent(said: dsl.OutputPath(str)):  # type: ignore
        return dsl.ContainerSpec(image="alpine:3", command=["true"], args=[said])

    @dsl.pipeline(name="missing")
    def pipeline() -> None:
        join(texts=[1]).after(say(text=silent().output))

    states = {"say": "FAILED", "join": "NOT_TRIGGERED"}
    result = run(pipeline, ran="silent", states=states, ends="FAILED")
    assert "say: input parameter 'text' has no value" in result.job.error.message
