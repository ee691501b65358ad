"""What the network gives: a row for each cell of the pyramid, which says all that loss and answers need.

A cell is responsible for objects whose middle is near its own. Its row holds the box that it sees, (ymin, xmin, ymax,
xmax) in pixels of the canvas; then what is the same for every picture: its own middle (y, x), its stride, and the
overlap above which detections suppress each other; then a logit for each class.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

BOX, MIDDLE, STRIDE, NMS, LOGITS = slice(0, 4), slice(4, 6), 6, 7, 8
"""Columns of a row."""

LARGEST_LOG_SIZE = 4.0


@keras.saving.register_keras_serializable("detection")
class Rows(keras.layers.Layer):
    """Turns the maps of one level of the pyramid into rows.

    Args:
        stride: pixels from one cell to the next.
        nms_iou: of two detections of a class that overlap by more than this share, the weaker gives way.
    """

    def __init__(self, stride: int, nms_iou: float, **settings: Any) -> None:
        super().__init__(**{"dtype": "float32", **settings})
        self.stride, self.nms_iou = stride, nms_iou

    def call(self, maps: tuple[Any, Any]) -> Any:
        """Rows from what was convolved.

        Args:
            maps: float [N, height, width, 4]: of each cell's box where its middle is, as seen from the cell's, and the
                logarithm of its size, (height, width), both in strides; and [N, height, width, classes]: logits.

        Returns:
            float32 [N, height x width, 8 + classes].
        """
        shapes, logits = (ops.cast(each, "float32") for each in maps)
        height, width = shapes.shape[1:3]
        y, x = (np.arange(side, dtype=np.float32) + 0.5 for side in (height, width))
        grid = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(1, -1, 2) * self.stride
        shapes = ops.reshape(shapes, (-1, height * width, 4))
        middles = grid + self.stride * shapes[..., :2]
        halves = self.stride / 2 * ops.exp(ops.clip(shapes[..., 2:], -LARGEST_LOG_SIZE, LARGEST_LOG_SIZE))
        fixed = np.concatenate(
            [grid, np.full_like(grid[..., :1], self.stride), np.full_like(grid[..., :1], self.nms_iou)], axis=-1
        )
        fixed = ops.broadcast_to(fixed, (ops.shape(shapes)[0], height * width, 4))
        logits = ops.reshape(logits, (-1, height * width, logits.shape[-1]))
        return ops.concatenate([middles - halves, middles + halves, fixed, logits], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """The layer's settings."""
        return {**super().get_config(), "stride": self.stride, "nms_iou": self.nms_iou}
