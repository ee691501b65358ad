"""Protects what new data is held against: every training example in a bin, and few different values in one each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.trainer.distributions import BINS, distribution


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=200))
def test_the_shares_are_of_all_values_and_each_bin_holds_what_its_edges_say(values):
    found = distribution(values)
    assert len(found["shares"]) == len(found["edges"]) + 1 <= BINS
    assert found["edges"] == sorted(found["edges"])
    counts, _ = np.histogram(values, [-np.inf, *found["edges"], np.inf])
    assert found["shares"] == pytest.approx(counts / len(values))
    assert (found["minimum"], found["maximum"]) == (min(values), max(values))
    assert found["mean"] == pytest.approx(np.mean(values)) and found["deviation"] == pytest.approx(np.std(values))


def test_few_different_values_have_a_bin_each():
    assert distribution([28.0] * 5)["shares"] == [1.0]
    found = distribution([0, 0, 0, 1, 3])
    assert (found["edges"], found["shares"]) == ([0.5, 2.0], [0.6, 0.2, 0.2])


def test_many_are_in_equally_filled_bins():
    assert distribution(range(1000))["shares"] == pytest.approx([0.1] * BINS)
