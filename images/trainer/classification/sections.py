"""What the evaluation of a classifier shows: accuracy, who is taken for whom, and the learning curve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from images.trainer.classification.scores import MONITOR, confusion, reliability
from images.trainer.report import INK, SERIES, Number, Section, learning_curve, percent, picture, plots

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


def calibration(truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]]) -> Section:
    """How often answers of each confidence are right, and how many there are."""
    right = np.asarray(answers["class"]) == np.asarray(truths)
    bins = reliability(np.asarray(answers["confidence"]), right)
    confidences = [bin.confidence for bin in bins]

    def curve(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
        axes.plot(confidences, [bin.accuracy for bin in bins], color=SERIES[0], linewidth=2, marker="o", markersize=5)
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="confidence", ylabel="right")

    def counts(axes: Any) -> None:
        axes.bar(confidences, [bin.count for bin in bins], width=0.06, color=SERIES[0])
        axes.set(xlim=(0, 1.05), xlabel="confidence", ylabel="answers")

    note = "On the dotted line, answers are right as often as they say."
    return Section("Calibration", note, plots([("Right, by confidence", curve), ("Answers, by confidence", counts)]))


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
