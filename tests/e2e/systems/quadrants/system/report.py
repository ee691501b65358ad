"""What the evaluation shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from images.trainer.classification import sections as shared
from images.trainer.report import Number, Section

from .data import CLASSES

TITLE = "Telling quadrants apart"


def numbers(rates: Mapping[str, float]) -> list[Number]:
    """The numbers at the top."""
    return shared.numbers(rates, "points")


def sections(
    rates: Mapping[str, float],
    truths: Sequence[bytes],
    answers: Mapping[str, Sequence[Any]],
    features: Mapping[str, Sequence[Any]],
    history: Mapping[str, Sequence[float]],
) -> list[Section]:
    """Everything below the numbers."""
    return [shared.learning(history), shared.table(truths, answers, CLASSES)]
