"""Protects the search space's one definition: its form for Vertex, its reading back, its messages."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.executor import UserError
from images.trainer import hyperparameters
from images.trainer.hyperparameters import Choice, Discrete, Float, Integer, When, within

CRNN = hyperparameters.of("crnn")


@dataclasses.dataclass(frozen=True)
class Small:
    """A space with one field of each kind."""

    shape: str = within(Choice(("round", "square")), "round")
    rate: float = within(Float(1e-4, 1e-1, log=True), 1e-2)
    count: int = within(Integer(1, 9), 3)
    radius: float = within(Discrete((0.5, 1.5)), 0.5, when=When("shape", ("round",)))


def values_of(space):
    if isinstance(space, Choice | Discrete):
        return st.sampled_from(space.values)
    if isinstance(space, Integer):
        return st.integers(space.low, space.high)
    return st.floats(space.low, space.high)


@st.composite
def assignments(draw, cls):
    """What a trial of a study is given: every hyperparameter that exists, and no other."""
    values = {}
    for field in dataclasses.fields(cls):
        when = field.metadata["when"]
        if when is None or values.get(when.parent) in when.values:
            values[field.name] = draw(values_of(field.metadata["space"]))
    return values


@given(assignments(CRNN) | assignments(Small), st.booleans())
def test_whatever_a_study_suggests_is_read_back(values, as_text):
    cls = CRNN if "architecture" in values else Small
    given_values = {name: str(value) if as_text else value for name, value in values.items()}
    parsed = hyperparameters.parse(cls, given_values)
    assert hyperparameters.to_dict(parsed) == values
    assert hyperparameters.parse(cls, json.loads(json.dumps(hyperparameters.to_dict(parsed)))) == parsed


def test_what_is_not_searched_is_no_parameter_of_a_trial_but_can_be_given():
    @dataclasses.dataclass(frozen=True)
    class Fixed(Small):
        size: int = within(Integer(1, 9), 5, When("shape", ("round",)), searched=False)

    assert hyperparameters.parameter_specs(Fixed) == hyperparameters.parameter_specs(Small)
    searched = hyperparameters.to_dict(Small())
    assert hyperparameters.parse(Fixed, searched) == Fixed()
    assert hyperparameters.parse(Fixed, {**searched, "size": 7}) == Fixed(size=7)
    assert hyperparameters.to_dict(Fixed(size=7)) == {**searched, "size": 7}
    with pytest.raises(UserError, match="size=10: must be a whole number from 1 to 9"):
        hyperparameters.parse(Fixed, {**searched, "size": 10})
    with pytest.raises(UserError, match="size: only exists when shape is round"):
        hyperparameters.parse(Fixed, {"shape": "square", "rate": 0.01, "count": 3, "size": 5})


def test_vertex_takes_the_specs_as_they_are():
    from google.cloud.aiplatform_v1.types import StudySpec

    specs = [StudySpec.ParameterSpec(spec) for spec in hyperparameters.parameter_specs(CRNN)]
    names = [spec.parameter_id for spec in specs]
    names += [child.parameter_spec.parameter_id for spec in specs for child in spec.conditional_parameter_specs]
    assert sorted(names) == sorted(field.name for field in dataclasses.fields(CRNN))
    rate = specs[names.index("learning_rate")]
    assert rate.scale_type == StudySpec.ParameterSpec.ScaleType.UNIT_LOG_SCALE
    assert rate.double_value_spec.min_value == 5e-4


def test_conditions_become_conditional_specs():
    first = hyperparameters.parameter_specs(Small)[0]
    radius = {"discrete_value_spec": {"values": [0.5, 1.5], "default_value": 0.5}, "parameter_id": "radius"}
    assert first == {
        "parameter_id": "shape",
        "categorical_value_spec": {"values": ["round", "square"], "default_value": "round"},
        "conditional_parameter_specs": [{"parent_categorical_values": {"values": ["round"]}, "parameter_spec": radius}],
    }


def test_what_is_decided_has_one_value_and_rules_out_what_depends_on_others():
    decided = hyperparameters.given(Small, "shape=square rate=0.05 count=")
    assert decided == {"shape": "square", "rate": 0.05}
    assert hyperparameters.is_searched(Small, decided)
    assert not hyperparameters.is_searched(Small, hyperparameters.to_dict(Small()))
    specs = {spec["parameter_id"]: spec for spec in hyperparameters.parameter_specs(Small, decided)}
    assert specs["shape"]["categorical_value_spec"]["values"] == ["square"]
    assert specs["rate"]["discrete_value_spec"] == {"values": [0.05], "default_value": 0.05}
    assert "conditional_parameter_specs" not in specs["shape"]
    assert specs["count"] == {spec["parameter_id"]: spec for spec in hyperparameters.parameter_specs(Small)}["count"]


def test_whole_numbers_come_back_whole():
    values = {**hyperparameters.to_dict(CRNN()), "batch_size": "32.0"}
    assert hyperparameters.parse(CRNN, values).batch_size == 32
    assert isinstance(hyperparameters.parse(CRNN, values).batch_size, int)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rat": 1}, "learning_rat: no such name; did you mean learning_rate?"),
        ({"zzz": 1}, "zzz: no such name; the names are architecture, learning_rate"),
        ({"learning_rate": "fast"}, "learning_rate=fast: must be a number from 0.0005 to 0.016"),
        ({"learning_rate": "nan"}, "learning_rate=nan: must be a number"),
        ({"learning_rate": 1.0}, "learning_rate=1.0: must be a number"),
        ({"batch_size": 33}, "batch_size=33: must be one of 16, 32, 64"),
        ({"batch_size": True}, "batch_size=True: must be one of"),
        ({"batch_size": None}, "batch_size=None: must be one of"),
        ({"architecture": "transformer"}, "architecture=transformer: must be one of tcn, bilstm"),
        ({"architecture": ["tcn"]}, "must be one of tcn, bilstm"),
        ({"lstm_units": 64}, "lstm_units: only exists when architecture is bilstm"),
        ({"architecture": "bilstm"}, "kernel_size: only exists when architecture is tcn"),
    ],
)
def test_each_mistake_is_named(change, message):
    with pytest.raises(UserError) as error:
        hyperparameters.parse(CRNN, {**hyperparameters.to_dict(CRNN()), **change})
    assert message in str(error.value)


def test_a_missing_one_is_named():
    values = hyperparameters.to_dict(CRNN())
    del values["dropout"]
    with pytest.raises(UserError, match="hyperparameter dropout: missing; give a number from 0"):
        hyperparameters.parse(CRNN, values)


def test_an_unknown_system_is_named():
    with pytest.raises(UserError, match="--system=crn: no such system; did you mean crnn"):
        hyperparameters.of("crn")


def test_a_default_outside_its_space_cannot_be_defined():
    with pytest.raises(ValueError, match="one of"):
        within(Choice(("a",)), "b")
