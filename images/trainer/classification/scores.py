"""How right a classifier is: accuracy with its interval, and per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from images.trainer import intervals

MONITOR = "error_rate"


def measure(truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """The share of wrong answers.

    Args:
        truths: the right class of each example, UTF-8.
        answers: `class` of each example, UTF-8.
    """
    return {MONITOR: float(np.mean(np.asarray(truths) != np.asarray(answers["class"])))}


def evaluate(truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """All numbers of the report.

    Returns:
        `accuracy` with `accuracy_low` and `accuracy_high` (Wilson's 95 % interval), `error_rate`,
        `calibration_error` (mean distance of confidence and accuracy over ten bins of confidence),
        `recall_<class>` for each class that there are examples of, and their number, `examples`.
    """
    given, truth = np.asarray(answers["class"]), np.asarray(truths)
    right = given == truth
    accuracy = float(right.mean())
    low, high = intervals.of_share(int(right.sum()), len(right))
    rates = {
        "accuracy": accuracy,
        "accuracy_low": low,
        "accuracy_high": high,
        MONITOR: float(np.mean(~right)),
        "calibration_error": _calibration_error(np.asarray(answers["confidence"]), right),
        "examples": len(right),
    }
    return rates | {f"recall_{name.decode()}": float(right[truth == name].mean()) for name in np.unique(truth)}


def confusion(truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]], classes: Sequence[str]) -> list[list[int]]:
    """How often each class (row) was taken for each (column)."""
    index = {name.encode(): number for number, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), int)
    np.add.at(matrix, ([index[name] for name in truths], [index[name] for name in answers["class"]]), 1)
    return [[int(count) for count in row] for row in matrix]


def _calibration_error(confidence: npt.NDArray[Any], right: npt.NDArray[Any]) -> float:
    """Guo et al., "On Calibration of Modern Neural Networks" (2017), with ten bins."""
    bins = np.minimum((confidence * 10).astype(int), 9)
    gaps = [abs(confidence[bins == each].sum() - right[bins == each].sum()) for each in np.unique(bins)]
    return float(sum(gaps) / len(right))
