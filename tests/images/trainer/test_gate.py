"""Protects the gate: of challengers that are worse by the margin no more pass than the stated level."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from images.trainer import gate
from images.trainer.gate import Errors, Rule, judge

LEVEL = 0.05
SAMPLES, RESAMPLES = 250, 800


def worse_by(margin: float, shared: float, count: int, group: int, random: Any) -> tuple[Errors, Errors, Any]:
    """A test set on which the challenger's true error rate is higher by the margin; mistakes cluster in groups."""
    likely = np.full(count, shared + margin)
    groups = None
    if group > 1:
        strength = 1 / 0.05 - 1  # Mistakes within a group are correlated by 0.05.
        per_group = random.beta(likely[0] * strength, (1 - likely[0]) * strength, count // group)
        likely, groups = per_group.repeat(group), np.arange(count // group).repeat(group).astype("S")
    luck = random.random(count)
    worse, better = luck < likely, luck > 1 - shared
    whole = np.ones(count)
    return Errors(worse.astype(float), whole), Errors((better & ~worse).astype(float), whole), groups


@pytest.mark.parametrize(
    ("count", "margin", "shared", "group"),
    [
        (15, 0.25, 0.0, 1),
        (15, 0.2, 0.05, 1),
        (60, 0.1, 0.05, 1),
        (180, 0.04, 0.02, 1),
        (1000, 0.01, 0.02, 1),
        (200, 0.05, 0.0, 10),
        (1000, 0.015, 0.01, 20),
        (1000, 0.02, 0.01, 100),
    ],
)
def test_false_promotions_are_as_rare_as_the_level_says(
    count: int, margin: float, shared: float, group: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "RESAMPLES", RESAMPLES)
    random = np.random.default_rng(7)
    passed = 0
    for seed in range(SAMPLES):
        own, other, groups = worse_by(margin, shared, count, group, random)
        differences = gate.resampled(own, other, groups, seed)
        passed += gate.upper(own, other, differences, groups, LEVEL) <= margin
    noise = 2 * math.sqrt(LEVEL * (1 - LEVEL) / SAMPLES)  # of this simulation
    assert passed / SAMPLES <= LEVEL + noise


def test_a_clearly_better_one_nearly_always_passes() -> None:
    random = np.random.default_rng(7)
    rule = Rule(highest_error=1.0, margin=0.0, slice_margin=1.0, level=LEVEL)
    passed = 0
    for _ in range(100):
        other, own, _ = worse_by(0.05, 0.02, 500, 1, random)
        passed += judge("e", own, other, None, {}, rule).passed
    assert passed > 90


def errors(*wrong: float) -> Errors:
    return Errors(np.array(wrong, float), np.ones(len(wrong)))


RULE = Rule(highest_error=0.5, margin=0.3, slice_margin=0.1, level=LEVEL)
RIGHT, HALF = errors(*[0.0] * 20), errors(*[1.0] * 10, *[0.0] * 10)


def test_a_first_model_has_only_the_minimum_to_meet() -> None:
    assert judge("e", HALF, None, None, {}, RULE).passed
    refused = judge("e", errors(*[1.0] * 11, *[0.0] * 9), None, None, {}, RULE)
    assert not refused.passed
    assert refused.reason == "e 0.55, above the 0.5 that a model may have"


def test_one_worse_slice_is_enough_to_refuse() -> None:
    once = errors(1.0, *[0.0] * 19)
    first = np.arange(20) < 4
    assert judge("e", once, RIGHT, None, {}, RULE).passed
    refused = judge("e", once, RIGHT, None, {"class a": first, "class b": ~first}, RULE)
    assert not refused.passed
    assert "worse on class a: 0.25, the champion's 0, margin 0.1" in refused.reason


def test_agreement_on_few_examples_is_no_certainty() -> None:
    verdict = judge("e", RIGHT, RIGHT, None, {}, RULE)
    assert verdict.numbers["difference"] == 0
    assert 3 / 21 <= verdict.numbers["difference_high"] < 0.2
    assert not judge("e", RIGHT, RIGHT, None, {}, Rule(0.5, 0.1, 0.1, LEVEL)).passed


def test_one_group_says_nothing() -> None:
    verdict = judge("e", RIGHT, HALF, [b"one writer"] * 20, {}, RULE)
    assert not verdict.passed
    assert verdict.numbers["difference_high"] == math.inf
