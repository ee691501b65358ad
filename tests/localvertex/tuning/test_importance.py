"""Protects the importance of hyperparameters: what decides the result comes first, and few trials say nothing."""

import random

import pytest
from google.cloud.aiplatform_v1.types import StudySpec

from localvertex.tuning.importance import importance
from localvertex.tuning.suggest import Past

STUDY = StudySpec(
    metrics=[{"metric_id": "loss", "goal": "MINIMIZE"}],
    parameters=[
        {"parameter_id": "rate", "double_value_spec": {"min_value": 0.001, "max_value": 1.0}, "scale_type": 2},
        {"parameter_id": "layers", "integer_value_spec": {"min_value": 1, "max_value": 8}},
        {"parameter_id": "kind", "categorical_value_spec": {"values": ["a", "b"]}},
        {"parameter_id": "fixed", "discrete_value_spec": {"values": [1.0, 2.0]}},
    ],
)


def trials(count: int) -> list[Past]:
    pick = random.Random(1)
    found = []
    for _ in range(count):
        layers, kind = pick.randint(1, 8), pick.choice("ab")
        values = {"rate": 10 ** pick.uniform(-3, 0), "layers": float(layers), "kind": kind, "fixed": 1.0}
        found.append(Past(values, (layers + 0.3 * (kind == "b") + 0.01 * pick.random(),)))
    return found


def test_what_decides_the_result_comes_first() -> None:
    found = importance(STUDY, [*trials(40), Past({"rate": 0.1, "layers": 1.0, "kind": "a", "fixed": 1.0}, (), False)])
    assert next(iter(found)) == "layers" and found["layers"] > 0.8
    assert sum(found.values()) == pytest.approx(1) and "fixed" not in found
    assert found == importance(STUDY, trials(40)), "a failed trial, and chance, change nothing"


def test_few_trials_or_equal_results_say_nothing() -> None:
    assert importance(STUDY, trials(3)) == {}
    assert importance(STUDY, [Past(each.values, (1.0,)) for each in trials(9)]) == {}
    assert importance(STUDY, [Past({}, (float(n),)) for n in range(9)]) == {}
