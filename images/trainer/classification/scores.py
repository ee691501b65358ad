"""How right a classifier is: accuracy with its interval, and per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

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


def evaluate(
    truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]], features: Mapping[str, Sequence[Any]] | None = None
) -> dict[str, float]:
    """All numbers of the report, which need no other features of the examples.

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
        "calibration_error": calibration_error(np.asarray(answers["confidence"]), right),
        "examples": len(right),
    }
    return rates | {f"recall_{name.decode()}": float(right[truth == name].mean()) for name in np.unique(truth)}


def confusion(truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]], classes: Sequence[str]) -> list[list[int]]:
    """How often each class (row) was taken for each (column)."""
    index = {name.encode(): number for number, name in enumerate(classes)}
    matrix = np.zeros((len(classes), len(classes)), int)
    np.add.at(matrix, ([index[name] for name in truths], [index[name] for name in answers["class"]]), 1)
    return [[int(count) for count in row] for row in matrix]


def calibration_error(confidence: npt.NDArray[Any], right: npt.NDArray[Any]) -> float:
    """Guo et al., "On Calibration of Modern Neural Networks" (2017), with ten bins.

    Args:
        confidence: of each answer, 0 to 1.
        right: whether each is.
    """
    return float(
        sum(abs(bin.confidence - bin.accuracy) * bin.count for bin in reliability(confidence, right)) / len(right)
    )


class Bin(NamedTuple):
    """Answers of about the same confidence: how many, their mean confidence, and the share that is right."""

    count: int
    confidence: float
    accuracy: float


def reliability(confidence: npt.NDArray[Any], right: npt.NDArray[Any]) -> list[Bin]:
    """The answers by tenths of confidence; tenths without any are left out."""
    bins = np.minimum((confidence * 10).astype(int), 9)
    own = [bins == each for each in np.unique(bins)]
    return [Bin(int(each.sum()), float(confidence[each].mean()), float(right[each].mean())) for each in own]
