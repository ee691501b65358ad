"""Confidence intervals: of ratios by resampling (Efron, 1979), of shares by Wilson's score (1927)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

RESAMPLES = 2_000
AT_ONCE = 100  # resamples in memory


def of_ratio(
    parts: Sequence[float], wholes: Sequence[float], level: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """The percentile interval of sum(parts) / sum(wholes) when the examples are drawn anew.

    Args:
        parts: one number an example, such as its errors.
        wholes: one number an example, such as its length; not all 0.
        level: the share of resamples inside.
        seed: of the resamples.

    Returns:
        The low and the high end.
    """
    pairs = np.array([parts, wholes], dtype=np.float64).T
    count = len(pairs)
    random = np.random.default_rng(seed)
    even = np.full(count, 1 / count)
    ratios = []
    for _ in range(RESAMPLES // AT_ONCE):
        drawn = random.multinomial(count, even, size=AT_ONCE) @ pairs
        ratios.append(drawn[:, 0] / np.maximum(drawn[:, 1], 1e-12))
    low, high = np.quantile(np.concatenate(ratios), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def of_share(right: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of right / count: it has a width even where nothing is wrong.

    Args:
        right: how many are.
        count: of how many, at least 1.
        level: the share of intervals that hold the true share.

    Returns:
        The low and the high end.
    """
    from scipy.stats import binomtest

    interval = binomtest(right, count).proportion_ci(level, method="wilson")
    return float(interval.low), float(interval.high)
