"""Pictures turned, slanted, stretched and shifted about their middle, each by amounts of its own.

By OpenCV and not by TensorFlow's operation, which is made for any projection: an augmented batch should cost little
beside the step that learns from it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


class Changes(NamedTuple):
    """How each of N pictures is changed, floats [N] each.

    Attributes:
        turn: radians.
        slant: columns per row.
        across: stretch along the rows; 1 leaves it, more shows more of the picture.
        down: stretch along the columns.
        right: columns that the picture moves to the left.
        below: rows that the picture moves up.
    """

    turn: Array
    slant: Array
    across: Array
    down: Array
    right: Array
    below: Array


def changed(images: Array, changes: Changes, interpolated: bool = True) -> Array:
    """Changes each picture of a batch; what comes in from outside is 0.

    Args:
        images: uint8 [N, height, width].
        changes: of each.
        interpolated: bilinearly; else each pixel is the nearest.

    Returns:
        The same dtype and shape.
    """
    _, height, width = images.shape
    turn, slant, across, down, right, below = changes
    # Output to input, about the middle: stretch, then slant, then turn.
    a, b = across * np.cos(turn), across * (slant * np.cos(turn) - np.sin(turn))
    c, d = down * np.sin(turn), down * (slant * np.sin(turn) + np.cos(turn))
    column, row = (width - 1) / 2, (height - 1) / 2
    x, y = column - a * column - b * row + right, row - c * column - d * row + below
    return warped(images, np.stack([a, b, x, c, d, y], axis=-1).reshape(-1, 2, 3), interpolated)


def warped(images: Array, places: Array, interpolated: bool = True, outside: int = 0) -> Array:
    """Takes each pixel of a result from its place in the picture.

    Args:
        images: uint8 [N, height, width], or [N, height, width, 3].
        places: float64 [N, 2, 3]; times (column, row, 1) of the result it is (column, row) of the picture.
        interpolated: bilinearly; else each pixel is the nearest.
        outside: the grey of what is not in the picture.

    Returns:
        The same dtype and shape.
    """
    import cv2  # Where nothing is augmented it need not be read.

    cv2.setNumThreads(1)  # The other cores train.
    how = cv2.WARP_INVERSE_MAP | (cv2.INTER_LINEAR if interpolated else cv2.INTER_NEAREST)
    moved = np.empty(images.shape, images.dtype)
    size = images.shape[2], images.shape[1]
    for image, place, result in zip(images, places, moved, strict=True):
        cv2.warpAffine(image, place, size, dst=result, flags=how, borderValue=(outside,) * 3)
    return moved
