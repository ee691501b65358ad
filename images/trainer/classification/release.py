"""What a release compares of a classifier: wrong answers, and those of each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from images.trainer.gate import Errors


def errors(truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]]) -> Errors:
    """1 where the class is wrong."""
    wrong = np.asarray(truths) != np.asarray(answers["class"])
    return Errors(wrong.astype(np.float64), np.ones(len(truths)))


def slices(truths: Sequence[bytes], features: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """The examples of each class."""
    truth = np.asarray(truths)
    return {f"class {name.decode()}": truth == name for name in np.unique(truth)}
