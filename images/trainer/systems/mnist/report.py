"""What the evaluation of a digit reader shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from images.trainer.classification import sections as shared
from images.trainer.report import Number, Section
from images.trainer.systems.mnist.data import CLASSES

TITLE = "Reading handwritten digits"


def numbers(rates: Mapping[str, float]) -> list[Number]:
    """The numbers at the top."""
    return shared.numbers(rates, "digits")


def sections(
    rates: Mapping[str, float],
    truths: Sequence[bytes],
    answers: Mapping[str, Sequence[Any]],
    features: Mapping[str, Sequence[Any]],
    history: Mapping[str, Sequence[float]],
) -> list[Section]:
    """Everything below the numbers.

    Args:
        rates: from `metrics.evaluate`.
        truths: UTF-8 classes.
        answers: `class` and `confidence` of each digit.
        features: `image` (uint8 [height, width]) and `key` of each digit.
        history: the columns of history.csv.
    """
    return [
        shared.learning(history, "Training digits are augmented."),
        shared.worst_pictures(truths, answers, features),
        shared.table(truths, answers, CLASSES),
    ]
