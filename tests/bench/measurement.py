"""What a benchmark reports: a ratio, the bound it must meet, and whether it does."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Measurement:
    """One ratio.

    Attributes:
        name: what is compared with what.
        ratio: of two figures measured in the same run.
        bound: what the ratio must be, for a reader: ">= 0.7", or "reported" when nothing is asked of it.
        passed: whether it is.
        detail: the figures themselves.
    """

    name: str
    ratio: float
    bound: str
    passed: bool
    detail: str


def at_least(name: str, ratio: float, bound: float, detail: str) -> Measurement:
    """A ratio that must not be lower than its bound."""
    return Measurement(name, ratio, f">= {bound:g}", ratio >= bound, detail)


def at_most(name: str, ratio: float, bound: float, detail: str) -> Measurement:
    """A ratio that must not be higher than its bound."""
    return Measurement(name, ratio, f"<= {bound:g}", ratio <= bound, detail)


MANY = 8
"""Rounds of what takes a second or two: machines that are shared have moments in which they are not, if one waits."""


def best_seconds(
    *functions: Callable[[], object], rounds: int = 3, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """The shortest time of each function. They take turns, so that other load weighs on all alike.

    Args:
        functions: what to measure.
        rounds: how often each takes its turn.
        clock: seconds on the wall, or `time.process_time` for seconds of this process on a core.
    """
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for index, function in enumerate(functions):
            started = clock()
            function()
            best[index] = min(best[index], clock() - started)
    return best
