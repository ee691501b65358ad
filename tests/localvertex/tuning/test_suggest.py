"""Protects the search: every parameter kind and scale stays in its space, and searches are repeatable."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import StudySpec
from hypothesis import given, settings
from hypothesis import strategies as st

from localvertex.tuning import space
from localvertex.tuning.suggest import Past, suggest

LOG, REVERSE = "UNIT_LOG_SCALE", "UNIT_REVERSE_LOG_SCALE"
NETWORK = {
    "parameter_id": "network",
    "categorical_value_spec": {"values": ["tree", "net"]},
    "conditional_parameter_specs": [
        {
            "parent_categorical_values": {"values": ["net"]},
            "parameter_spec": {
                "parameter_id": "layers",
                "integer_value_spec": {"min_value": 1, "max_value": 2},
                "conditional_parameter_specs": [
                    {
                        "parent_int_values": {"values": [2]},
                        "parameter_spec": {"parameter_id": "skip", "discrete_value_spec": {"values": [0, 1]}},
                    }
                ],
            },
        },
        {
            "parent_categorical_values": {"values": ["tree"]},
            "parameter_spec": {"parameter_id": "depth", "discrete_value_spec": {"values": [2, 8, 32]}},
        },
    ],
}
RATE = {"parameter_id": "rate", "double_value_spec": {"min_value": 1e-4, "max_value": 1.0}, "scale_type": LOG}


def study(*parameters: dict[str, Any], algorithm: str = "ALGORITHM_UNSPECIFIED", goal: str = "MINIMIZE") -> StudySpec:
    return StudySpec(
        {
            "metrics": [{"metric_id": "loss", "goal": goal}],
            "parameters": list(parameters),
            "algorithm": algorithm,
        }
    )


def search(spec: StudySpec, trials: int, score: Any = lambda values: 0.0, seed: str = "seed") -> list[dict[str, Any]]:
    past: list[Past] = []
    for _ in range(trials):
        values = suggest(spec, seed, past)
        if values is None:
            break
        past.append(Past(values, (score(values),)))
    return [trial.values for trial in past]


def test_grid_visits_every_combination_once_and_only_the_active_parameters() -> None:
    spec = study(NETWORK, {"parameter_id": "fold", "integer_value_spec": {"min_value": 1, "max_value": 2}},
                 algorithm="GRID_SEARCH")  # fmt: skip
    visited = search(spec, 100)
    inner = [{"network": "tree", "depth": d} for d in (2, 8, 32)]
    inner += [{"network": "net", "layers": 1}, {"network": "net", "layers": 2, "skip": 0},
              {"network": "net", "layers": 2, "skip": 1}]  # fmt: skip
    expected = [{**values, "fold": fold} for values in inner for fold in (1, 2)]
    assert sorted(map(sorted_items, visited)) == sorted(map(sorted_items, expected))


def sorted_items(values: dict[str, Any]) -> str:
    return str(sorted((name, str(float(v)) if not isinstance(v, str) else v) for name, v in values.items()))


@pytest.mark.parametrize("algorithm", ["ALGORITHM_UNSPECIFIED", "RANDOM_SEARCH"])
def test_conditional_parameters_come_with_their_parents_value_only(algorithm: str) -> None:
    tried = search(study(NETWORK, RATE, algorithm=algorithm), 25)
    assert {values["network"] for values in tried} == {"tree", "net"}
    for values in tried:
        expected = {"network", "rate", "depth"} if values["network"] == "tree" else {"network", "rate", "layers"}
        assert set(values) == expected | ({"skip"} if values.get("layers") == 2 else set())


@pytest.mark.parametrize(
    ("scale", "low_share"), [("UNIT_LINEAR_SCALE", (0.0, 0.05)), (LOG, (0.35, 0.65)), (REVERSE, (0.0, 0.05))]
)
def test_scales_spread_trials_as_they_say(scale: str, low_share: tuple[float, float]) -> None:
    parameter = {**RATE, "scale_type": scale}
    tried = [values["rate"] for values in search(study(parameter, algorithm="RANDOM_SEARCH"), 120)]
    low = sum(rate < 0.01 for rate in tried) / len(tried)
    high = sum(rate > 0.99 for rate in tried) / len(tried)
    assert low_share[0] <= low <= low_share[1]
    assert (high > 0.35) == (scale == REVERSE)


def test_the_default_algorithm_learns_from_its_trials() -> None:
    def loss(values: dict[str, Any]) -> float:
        return abs(math.log10(values["rate"]) + 2)

    by_chance = search(study(RATE, algorithm="RANDOM_SEARCH"), 40, loss)
    by_learning = search(study(RATE), 40, loss)
    late = slice(20, 40)
    assert sum(map(loss, by_learning[late])) < 0.6 * sum(map(loss, by_chance[late]))


def test_maximizing_searches_the_other_way() -> None:
    tried = search(study({**RATE, "scale_type": "UNIT_LINEAR_SCALE"}, goal="MAXIMIZE"), 30, lambda v: v["rate"])
    assert sum(values["rate"] for values in tried[20:]) / 10 > 0.75


def test_defaults_are_tried_first() -> None:
    parameters = (
        {**RATE, "double_value_spec": {"min_value": 1e-4, "max_value": 1.0, "default_value": 0.03}},
        {"parameter_id": "units", "discrete_value_spec": {"values": [8, 16], "default_value": 16}},
    )
    assert suggest(study(*parameters), "seed", []) == {"rate": 0.03, "units": 16}
    assert suggest(study(*parameters, algorithm="RANDOM_SEARCH"), "seed", []) != {"rate": 0.03, "units": 16}


def test_several_metrics_are_searched_together() -> None:
    """Their best compromises lie between 0.2 and 0.8; a search for one of the two would end beyond."""
    spec = study({**RATE, "scale_type": "UNIT_LINEAR_SCALE"})
    spec.metrics.append({"metric_id": "size", "goal": "MAXIMIZE"})
    past: list[Past] = []
    for _ in range(40):
        values = suggest(spec, "seed", past)
        assert values is not None
        rate = float(values["rate"])
        past.append(Past(values, (abs(rate - 0.2), -abs(rate - 0.8))))
    late = [float(trial.values["rate"]) for trial in past[25:]]
    assert sum(0.15 < rate < 0.85 for rate in late) >= 13
    assert min(late) < 0.4 and max(late) > 0.6


def test_failed_and_running_trials_do_not_stop_the_search() -> None:
    spec = study(NETWORK, RATE)
    past = [
        Past(values, () if i % 2 else (math.nan,), feasible=bool(i % 2)) for i, values in enumerate(search(spec, 12))
    ]
    assert suggest(spec, "seed", past)


@settings(max_examples=25, deadline=None)
@given(
    kind=st.sampled_from(["double", "integer"]),
    scale=st.sampled_from(["UNIT_LINEAR_SCALE", LOG, REVERSE]),
    low=st.integers(1, 50),
    span=st.integers(0, 1000),
    seed=st.text(max_size=5),
)
def test_values_stay_within_bounds_and_the_search_is_repeatable(
    kind: str, scale: str, low: int, span: int, seed: str
) -> None:
    bounds = {"min_value": low, "max_value": low + span}
    spec = study({"parameter_id": "x", f"{kind}_value_spec": bounds, "scale_type": scale})
    tried = search(spec, 4, lambda values: values["x"], seed)
    assert all(low <= values["x"] <= low + span for values in tried)
    assert kind == "double" or all(values["x"] == int(values["x"]) for values in tried)
    assert tried == search(spec, 4, lambda values: values["x"], seed)


@pytest.mark.parametrize(
    ("parameters", "algorithm", "message"),
    [
        ([], "RANDOM_SEARCH", "must not be empty"),
        ([RATE], "GRID_SEARCH", "grid search needs"),
        ([RATE, RATE], "RANDOM_SEARCH", "used twice"),
        (
            [{**RATE, "double_value_spec": {"min_value": 2, "max_value": 1}}],
            "RANDOM_SEARCH",
            "above max_value",
        ),
        ([{**RATE, "double_value_spec": {"min_value": 0, "max_value": 1}}], "RANDOM_SEARCH", "logarithmic"),
        ([{"parameter_id": "x", "discrete_value_spec": {"values": [2, 1]}}], "RANDOM_SEARCH", "increasing"),
        ([{"parameter_id": "x"}], "RANDOM_SEARCH", "four value specs"),
        ([{**NETWORK, "categorical_value_spec": {"values": ["net"]}}], "RANDOM_SEARCH", "cannot take"),
    ],
)
def test_a_study_that_cannot_be_searched_is_refused(
    parameters: list[dict[str, Any]], algorithm: str, message: str
) -> None:
    with pytest.raises(exceptions.InvalidArgument, match=message):
        space.check(study(*parameters, algorithm=algorithm))


def test_grid_order_does_not_depend_on_the_trials() -> None:
    spec = study(NETWORK, algorithm="GRID_SEARCH")
    whole = search(spec, 6)
    again = search(spec, 6, score=lambda values: 1.0, seed="other")
    assert whole == again and all(one != two for one, two in pairwise(whole))
