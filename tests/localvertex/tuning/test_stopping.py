"""Protects early stopping: a hopeless trial is stopped, a promising one never is."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from localvertex.tuning.stopping import decay_curve_rule, median_rule

Curve = list[tuple[float, float]]


def falling(end: float, steps: int = 10, start: float = 10.0) -> Curve:
    return [(step, end + (start - end) * math.exp(-0.5 * step)) for step in range(1, steps + 1)]


def test_median_rule_compares_the_best_so_far_with_running_averages() -> None:
    completed = [[(1, 4.0), (2, 2.0)], [(1, 6.0), (2, 4.0)], [(1, 9.0), (2, 9.0)]]
    assert not median_rule([(1, 6.0)], completed)  # the median of 4, 6, 9 is 6: not strictly worse
    assert median_rule([(1, 6.1)], completed)
    assert median_rule([(1, 7.0), (2, 5.5)], completed)  # the median of 3, 5, 9
    assert not median_rule([(1, 4.9), (2, 8.0)], completed)  # its best counts, not its last


def test_median_rule_ignores_trials_that_did_not_come_so_far() -> None:
    completed = [[(1, 4.0), (2, 2.0)], [(1, 9.0)], [(1, 9.0)]]
    assert median_rule([(1, 5.0), (2, 5.0)], completed)
    assert not median_rule([(1, 9.0)], completed)


def test_nothing_is_stopped_without_reports_or_without_completed_trials() -> None:
    for rule in (median_rule, decay_curve_rule):
        assert not rule([], [falling(1.0)])
        assert not rule([(1, 100.0)], [])
        assert not rule([(1, 100.0)], [[]])


def test_decay_curve_rule_stops_what_cannot_win_and_keeps_what_can() -> None:
    completed = [falling(end) for end in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert decay_curve_rule(falling(6.0)[:4], completed)
    assert not decay_curve_rule(falling(0.5)[:4], completed)


def test_decay_curve_rule_waits_for_four_finished_trials() -> None:
    completed = [falling(end) for end in (1.0, 2.0, 3.0)]
    assert not decay_curve_rule(falling(6.0)[:4], [*completed, falling(5.0)[:3]])
    assert decay_curve_rule(falling(6.0)[:4], [*completed, falling(5.0)])


def test_decay_curve_rule_waits_for_four_reports_of_the_trial() -> None:
    completed = [falling(end) for end in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert not decay_curve_rule(falling(6.0)[:3], completed)


def test_decay_curve_rule_judges_metrics_that_are_maximized_too() -> None:
    completed = [[(x, -1 / y) for x, y in falling(end)] for end in (1.0, 2.0, 3.0, 4.0, 5.0)]
    assert decay_curve_rule([(x, -1 / y) for x, y in falling(8.0)][:6], completed)
    assert not decay_curve_rule([(x, -1 / y) for x, y in falling(0.5)][:6], completed)


@given(
    ends=st.lists(st.floats(0.1, 9.0), min_size=1, max_size=8),
    step=st.integers(1, 9),
    better=st.floats(0.0, 5.0),
)
def test_median_rule_never_stops_a_trial_that_leads_all_others(ends: list[float], step: int, better: float) -> None:
    completed = [falling(end) for end in ends]
    leader = [(x, y - better) for x, y in falling(min(ends))[:step]]
    assert not median_rule(leader, completed)
