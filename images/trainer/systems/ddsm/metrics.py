"""How right densities are read: agreement with the radiologist, with intervals by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from images.trainer.classification.agreement import Agreement
from images.trainer.classification.scores import calibration_error
from images.trainer.classification.scores import confusion as confusion
from images.trainer.systems.ddsm.densities import CLASSES

MONITOR = "balanced_error_rate"
"""The share of wrong answers, each density counting as much."""


def measure(truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """The balanced error rate.

    Args:
        truths: the density of each mammogram, UTF-8.
        answers: `class` of each, UTF-8.
    """
    truth, given = np.asarray(truths), np.asarray(answers["class"])
    return {MONITOR: float(np.mean([np.mean(given[truth == name] != name) for name in np.unique(truth)]))}


def evaluate(
    truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]], features: Mapping[str, Sequence[Any]]
) -> dict[str, float]:
    """All numbers of the report.

    Args:
        truths: the density of each mammogram, UTF-8.
        answers: `class`, `confidence` and `probabilities` of each.
        features: `patient` and `key` of each; who has no patient's name is a patient of its own.

    Returns:
        `accuracy`, `balanced_accuracy`, `quadratic_kappa` and `auc_<density>` (this density against the others), each
        with `_low` and `_high` (95 %, by resampling patients); `recall_<density>`, `balanced_error_rate`,
        `calibration_error`, and the numbers of `examples` and `patients`.
    """
    patients = [patient or key for patient, key in zip(features["patient"], features["key"], strict=True)]
    truth, given = _index(truths), _index(answers["class"])
    agreement = Agreement(truth, given, np.asarray(answers["probabilities"]), patients)
    rates: dict[str, float] = {}
    for name, (value, low, high) in agreement.intervals(CLASSES).items():
        rates |= {name: value, f"{name}_low": low, f"{name}_high": high}
    present = np.unique(truth)
    return {
        **rates,
        **{f"recall_{CLASSES[each]}": float(np.mean(given[truth == each] == each)) for each in present},
        **measure(truths, answers),
        "calibration_error": calibration_error(np.asarray(answers["confidence"]), given == truth),
        "examples": len(truth),
        "patients": len(set(patients)),
    }


def _index(names: Sequence[bytes]) -> npt.NDArray[np.int64]:
    return np.array([CLASSES.index(name.decode()) for name in names], np.int64)
