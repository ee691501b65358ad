"""Which running trials are not worth finishing: the median rule and the decay curve rule.

Both see a trial as a curve: (how far, objective) pairs in order, where `how far` is a step count or seconds, and a
lower objective is better (negate a metric that is to be maximized).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

Curve = Sequence[tuple[float, float]]

_GIVE_UP_BELOW = 0.05
_FEWEST_FINISHED = 4
_FEWEST_REPORTS = 4


def median_rule(curve: Curve, completed: Sequence[Curve]) -> bool:
    """Whether the trial's best so far is strictly worse than the median running average of the completed trials.

    A completed trial is averaged over what it had reported when it was as far as this one is; those that never
    came so far (they were stopped themselves) say nothing.

    Source: StudySpec.MedianAutomatedStoppingSpec in the Vertex AI API reference; Golovin et al. 2017, "Google
    Vizier", section 3.2.2.
    """
    if not curve:
        return False
    here = curve[-1][0]
    averages = [statistics.fmean(_values(_upto(other, here))) for other in completed if other and other[-1][0] >= here]
    return bool(averages) and min(_values(curve)) > statistics.median(averages)


def decay_curve_rule(curve: Curve, completed: Sequence[Curve]) -> bool:
    """Whether the trial has less than a 5 % chance of ending better than the best completed trial.

    A Gaussian process, fitted to the completed trials that ran to the end, predicts the final objective from what a
    trial had reported when it was as far as this one is. It needs four such trials, and four reports of this one:
    earlier, learning curves say little about how they end.

    Source: StudySpec.DecayCurveAutomatedStoppingSpec in the Vertex AI API reference; Golovin et al. 2017, "Google
    Vizier", section 3.2.1.
    """
    if len(curve) < _FEWEST_REPORTS or not any(completed):
        return False
    here = curve[-1][0]
    end = max(other[-1][0] for other in completed if other)
    finished = [other for other in completed if other and other[-1][0] >= end * 0.99]
    if here >= end or len(finished) < _FEWEST_FINISHED or any(other[0][0] > here for other in finished):
        return False
    best = min(min(_values(other)) for other in completed if other)
    scale = _scale([curve, *completed])
    mean, deviation = _predict(
        [_shape(_upto(other, here), scale) for other in finished],
        [scale(min(_values(other))) for other in finished],
        _shape(curve, scale),
    )
    return _chance_below(scale(best), mean, deviation) < _GIVE_UP_BELOW


def _values(curve: Curve) -> list[float]:
    return [value for _, value in curve]


def _upto(curve: Curve, here: float) -> Curve:
    return [point for point in curve if point[0] <= here]


def _scale(curves: Sequence[Curve]) -> Callable[[float], float]:
    """Losses and error rates fall by shares of what they are: the logarithm shows that, where there is one."""
    return math.log if all(value > 0 for curve in curves for value in _values(curve)) else float


def _shape(curve: Curve, scale: Callable[[float], float]) -> list[float]:
    """What the prediction goes by: the best so far, and how much the latest report improved on the one before."""
    values = [scale(value) for value in _values(curve)]
    return [min(values), values[-1] - values[max(len(values) - 2, 0)]]


def _predict(shapes: list[list[float]], finals: list[float], shape: list[float]) -> tuple[float, float]:
    import warnings

    import numpy as np
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, DotProduct, WhiteKernel

    known = np.asarray(shapes)
    centre, scale = known.mean(axis=0), known.std(axis=0) + 1e-9
    kernel = DotProduct() + RBF(length_scale_bounds=(0.5, 50)) + WhiteKernel(0.1, (1e-4, 1.0))
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        process.fit((known - centre) / scale, finals)
    mean, deviation = process.predict((np.asarray([shape]) - centre) / scale, return_std=True)
    return float(mean[0]), float(deviation[0])


def _chance_below(bound: float, mean: float, deviation: float) -> float:
    if deviation <= 0:
        return float(mean < bound)
    return 0.5 * (1 + math.erf((bound - mean) / (deviation * math.sqrt(2))))
