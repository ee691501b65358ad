"""What a release of the word reader compares: edits a character, by whole forms, each of one writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from images.trainer.gate import Errors
from images.trainer.picture_files import requests
from images.trainer.systems.crnn.metrics import edits, pairs

__all__ = ["errors", "groups", "requests", "slices"]

SHORT = 4  # characters


def errors(truths: Sequence[bytes], answers: Mapping[str, Sequence[Any]]) -> Errors:
    """Edits, of the characters of each word."""
    words = pairs(truths, answers)
    wrong = [0 if truth == answer else len(edits(truth, answer)) for truth, answer in words]
    return Errors(np.array(wrong, np.float64), np.array([len(truth) for truth, _ in words], np.float64))


def groups(features: Mapping[str, Sequence[Any]]) -> list[bytes]:
    """The form that each word is from: `a01-000u` of `a01-000u-00-03`; a key of another make is its own."""
    parts = [key.split(b"-") for key in features["key"]]
    return [b"-".join(each[:2]) if len(each) == 4 else b"-".join(each) for each in parts]


def slices(truths: Sequence[bytes], features: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Words of few letters and of many, those with a digit, and what each group of writers wrote.

    Writers are grouped by the first letter of their forms' names.
    """
    words = [truth.decode() for truth in truths]
    writers = np.array([key[:1] for key in features["key"]])
    lengths = np.array([len(word) for word in words])
    return {
        f"words of up to {SHORT} characters": lengths <= SHORT,
        f"words of more than {SHORT} characters": lengths > SHORT,
        "words with a digit": np.array([any(each.isdigit() for each in word) for word in words]),
        **{f"writers {name.decode(errors='replace')}": writers == name for name in np.unique(writers)},
    }
