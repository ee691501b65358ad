"""What a release of the mammogram reader compares: wrong densities, each density counting as much, by patient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from images.trainer.classification.release import slices as classes
from images.trainer.gate import Errors
from images.trainer.picture_files import requests

__all__ = ["errors", "groups", "requests", "slices"]


def errors(truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]]) -> Errors:
    """1 where the density is wrong, weighted so that every density counts as much: the balanced error rate."""
    truth = np.asarray(truths)
    names, index, counts = np.unique(truth, return_inverse=True, return_counts=True)
    weights = len(truth) / (len(names) * counts[index])
    return Errors(weights * (truth != np.asarray(answers["class"])), weights)


def groups(features: Mapping[str, Sequence[Any]]) -> list[bytes]:
    """The patient of each mammogram; who has no name is a patient of its own."""
    return [patient or key for patient, key in zip(features["patient"], features["key"], strict=True)]


def slices(truths: Sequence[bytes], features: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The mammograms of each density, and of each view and side that is known."""
    found = classes(truths, features)
    for name in ("view", "side"):
        values = np.asarray(features[name])
        found |= {f"{name} {value.decode()}": values == value for value in np.unique(values) if value}
    return found
