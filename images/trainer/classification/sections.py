"""What the evaluation of a classifier shows: accuracy, who is taken for whom, and the learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from images.trainer.classification.scores import MONITOR, confusion
from images.trainer.report import Number, Section, learning_curve, percent, picture

WORST = 24


def numbers(rates: Mapping[str, float], examples: str) -> list[Number]:
    """The numbers at the top; `examples` says what was tested, such as "digits"."""
    low, high = rates["accuracy_low"], rates["accuracy_high"]
    return [
        Number("Accuracy", f"{100 * rates['accuracy']:.2f} %", f"95 %: {100 * low:.2f} to {100 * high:.2f} %"),
        Number("Wrong", f"{round(rates[MONITOR] * rates['examples']):,}", f"of {rates['examples']:,} test {examples}"),
        Number("Calibration error", percent(rates["calibration_error"]), "confidence against accuracy, on average"),
    ]


def learning(history: Mapping[str, Sequence[float]], remark: str = "") -> Section:
    """The learning curve, from the columns of history.csv, with a remark on it."""
    return learning_curve(history, MONITOR, "Wrong, %", "examples", remark)


def table(truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]], classes: Sequence[str]) -> Section:
    """The confusion matrix, with each class's recall."""
    rows = []
    for name, row in zip(classes, confusion(truths, answers, classes), strict=True):
        share = percent(row[classes.index(name)] / sum(row)) if sum(row) else "none"
        rows.append((name, *(str(count) if count else "·" for count in row), share))
    return Section(
        "Who is taken for whom", "Rows are the truth, columns the answer.", None, ("", *classes, "recall"), rows
    )


def worst_pictures(
    truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]], features: Mapping[str, Sequence[Any]]
) -> Section:
    """The surest wrong answers first, as pictures.

    Args:
        truths: UTF-8 classes.
        answers: `class` and `confidence` of each example.
        features: `image` (uint8) and `key` of each example.
    """
    wrong = np.flatnonzero(np.asarray(truths) != np.asarray(answers["class"]))
    ranked = sorted(wrong.tolist(), key=lambda index: (-answers["confidence"][index], index))[:WORST]
    pictures = [
        (
            picture(np.asarray(features["image"][index])),
            truths[index].decode(),
            answers["class"][index].decode(),
            f"confidence {percent(answers['confidence'][index])} · {features['key'][index].decode()}",
        )
        for index in ranked
    ]
    note = "The surest first, as the network saw them." if pictures else "Every answer was right."
    return Section("Wrong answers", note, pictures=pictures)
