"""Arithmetic of boxes in NumPy: (ymin, xmin, ymax, xmax), and the letterbox that fits a picture into a canvas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Letterbox(NamedTuple):
    """How a picture lies in a canvas: scaled to fit, aspect kept, in the middle.

    Attributes:
        source: (height, width) of the picture.
        scaled: (height, width) that it has in the canvas.
        offset: (rows above it, columns left of it).
    """

    source: tuple[int, int]
    scaled: tuple[int, int]
    offset: tuple[int, int]

    @classmethod
    def of(cls, source: tuple[int, int], canvas: tuple[int, int]) -> Letterbox:
        """How a picture of (height, width) lies in a canvas of (height, width). Whole numbers, rounded half up."""
        rows, columns = source
        height, width = canvas
        if columns * height <= rows * width:
            scaled = (height, max((2 * columns * height + rows) // (2 * rows), 1))
        else:
            scaled = (max((2 * rows * width + columns) // (2 * columns), 1), width)
        return cls(source, scaled, ((height - scaled[0]) // 2, (width - scaled[1]) // 2))

    def into(self, box: Sequence[float]) -> tuple[float, ...]:
        """A box of the picture, as a box of the canvas."""
        (rows, columns), (height, width), (top, left) = self
        down, across = height / rows, width / columns
        return box[0] * down + top, box[1] * across + left, box[2] * down + top, box[3] * across + left

    def back(self, boxes: Array) -> Array:
        """Boxes [N, 4] of the canvas, as boxes of the picture."""
        return (boxes - np.array(self.offset * 2, np.float64)) / (np.array(self.scaled * 2) / np.array(self.source * 2))


def areas(boxes: Array) -> Array:
    """Of boxes [..., 4]; 0 where a box is inverted."""
    return np.maximum(boxes[..., 2] - boxes[..., 0], 0) * np.maximum(boxes[..., 3] - boxes[..., 1], 0)
