"""What the evaluation of a species classifier shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from images.trainer.classification import sections as shared
from images.trainer.report import Number, Section, percent
from images.trainer.systems.iris.data import CLASSES, NAMES

TITLE = "Telling irises apart"


def numbers(rates: Mapping[str, float]) -> list[Number]:
    """The numbers at the top."""
    return shared.numbers(rates, "rows")


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
        answers: `class` and `confidence` of each row.
        features: `numbers` (float32 [4]) and `key` of each row.
        history: the columns of history.csv.
    """
    return [
        shared.learning(history),
        shared.table(truths, answers, CLASSES),
        _wrong(truths, answers, features),
    ]


def _wrong(
    truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]], features: Mapping[str, Sequence[Any]]
) -> Section:
    wrong = np.flatnonzero(np.asarray(truths) != np.asarray(answers["class"]))
    rows = [
        (
            features["key"][index].decode(),
            *(f"{number:g}" for number in features["numbers"][index]),
            truths[index].decode(),
            answers["class"][index].decode(),
            percent(answers["confidence"][index]),
        )
        for index in wrong.tolist()
    ]
    note = "So few test rows say little: the cross-validation says how good the network is."
    return Section("Wrong answers", note, None, ("row", *NAMES, "truth", "answer", "confidence"), rows)
