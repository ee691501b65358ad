"""What the evaluation of a reader of mammograms shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from images.trainer.classification import sections as shared
from images.trainer.report import Number, Section, learning_curve, percent
from images.trainer.systems.ddsm.densities import CLASSES
from images.trainer.systems.ddsm.metrics import MONITOR, evaluate

TITLE = "Reading the density of the breast"

_BY = (("view", "view"), ("side", "side"))


def numbers(rates: Mapping[str, float]) -> list[Number]:
    """The numbers at the top."""
    patients = f"{rates['patients']:,} test patients, {rates['examples']:,} films"
    return [
        _number("Balanced accuracy", "balanced_accuracy", rates, 100, " %"),
        _number("Quadratic-weighted kappa", "quadratic_kappa", rates, 1, ""),
        _number("Accuracy", "accuracy", rates, 100, " %"),
        Number("Calibration error", percent(rates["calibration_error"]), patients),
    ]


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
        truths: UTF-8 densities.
        answers: `class`, `confidence` and `probabilities` of each mammogram.
        features: `image` (uint8 [height, width]), `key`, `patient`, `view` and `side` of each.
        history: the columns of history.csv.
    """
    remark = "Training mammograms are augmented, and each density counts as much."
    return [
        learning_curve(history, MONITOR, "Wrong, each density counting as much, %", "mammograms", remark),
        shared.table(truths, answers, CLASSES),
        _areas(rates),
        _parts(truths, answers, features),
        shared.calibration(truths, answers),
        shared.worst_pictures(truths, answers, features),
    ]


def _number(title: str, name: str, rates: Mapping[str, float], factor: float, unit: str) -> Number:
    value, low, high = (factor * rates[f"{name}{end}"] for end in ("", "_low", "_high"))
    digits = 1 if factor > 1 else 3
    return Number(title, f"{value:.{digits}f}{unit}", f"95 %, by patient: {low:.{digits}f} to {high:.{digits}f}{unit}")


def _areas(rates: Mapping[str, float]) -> Section:
    rows = [
        (name, f"{rates[area]:.3f}", f"{rates[f'{area}_low']:.3f} to {rates[f'{area}_high']:.3f}")
        for name in CLASSES
        if (area := f"auc_{name}") in rates
    ]
    note = "The share of pairs, of a film of this density and another, that its probability puts in order."
    return Section("Area under the ROC curve", note, None, ("density", "area", "95 %, by patient"), rows)


def _parts(
    truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]], features: Mapping[str, Sequence[Any]]
) -> Section:
    """The same numbers for each view and each side."""
    rows = []
    for title, name in _BY:
        values = np.asarray(features[name])
        for value in np.unique(values):
            own = np.flatnonzero(values == value)
            rates = evaluate([truths[index] for index in own], _of(answers, own), _of(features, own))
            shown = [f"{title} {value.decode() or 'not known'}", f"{rates['examples']:,}"]
            shown += [f"{rates[each]:.2f}" for each in ("balanced_accuracy", "quadratic_kappa")]
            rows.append((*shown, f"{rates['balanced_accuracy_low']:.2f} to {rates['balanced_accuracy_high']:.2f}"))
    note = "Balanced accuracy, kappa, and the interval of the first."
    return Section("By view and by side", note, None, ("", "films", "balanced", "kappa", "95 %"), rows)


def _of(columns: Mapping[str, Sequence[Any]], own: Sequence[int] | np.ndarray) -> dict[str, Any]:
    return {name: [values[index] for index in own] for name, values in columns.items()}
