"""Pictures with boxes drawn into them: truths in green, detections in orange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

TRUTH, DETECTION = (40, 200, 90), (255, 120, 20)
LONGER_SIDE = 256
SHOWN = 0.5
"""Detections that are less sure than this are not drawn."""


def draw(image: npt.NDArray[np.uint8], truth: Any, answer: Mapping[str, Any]) -> npt.NDArray[np.uint8]:
    """Draws boxes into an enlarged picture.

    Args:
        image: uint8 [height, width, 3].
        truth: [objects, 6], see `model.truths`.
        answer: of this picture, see `model.answers`.

    Returns:
        uint8 [height, width, 3], the longer side of 256 pixels or as it was, if that is more.
    """
    factor = max(1, LONGER_SIDE // max(image.shape[:2]))
    picture = Image.fromarray(image).resize((image.shape[1] * factor, image.shape[0] * factor))
    pen = ImageDraw.Draw(picture)
    for row in np.asarray(truth, float).reshape(-1, 6):
        if row[4] >= 0:
            pen.rectangle(_corners(row[:4], picture.size), outline=TRUTH, width=2)
    names = [name.decode() for name in answer["classes"]]
    for box, score, number in zip(*(answer[f"detection_{of}"] for of in ("boxes", "scores", "classes")), strict=True):
        if score >= SHOWN:
            corners = _corners(box, picture.size)
            pen.rectangle(corners, outline=DETECTION, width=2)
            label = f"{names[int(number)]} {100 * float(score):.0f}"
            at = corners[0] + 2, max(0.0, corners[1] - 12)
            pen.rectangle(pen.textbbox(at, label), fill=DETECTION)
            pen.text(at, label, fill=(0, 0, 0))
    return np.asarray(picture)


def of_example(answers: Mapping[str, Sequence[Any]], index: int) -> dict[str, Any]:
    """One picture's part of the answers to many."""
    return {name: values[index] for name, values in answers.items()}


def _corners(box: Any, size: tuple[int, int]) -> tuple[float, float, float, float]:
    top, left, bottom, right = (float(side) for side in box)
    return left * size[0], top * size[1], max(right, left) * size[0], max(bottom, top) * size[1]
