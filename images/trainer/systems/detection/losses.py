"""What the detector learns from: which cells answer for which object, how sure they are, how well their boxes fit.

Cells near an object's middle answer for it, on the levels of the pyramid that suit its size: Tian et al., "FCOS"
(2019), with centre sampling. Sureness is to equal the overlap of the cell's box with the object's, under the quality
focal loss of Li et al., "Generalized Focal Loss" (2020); boxes are judged by generalized IoU: Rezatofighi et al.
(2019). Every picture counts alike, however many objects it shows, so that batches can be divided among workers.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from images.trainer.systems.detection.outputs import BOX, LOGITS, MIDDLE, STRIDE

REACH = 1.5  # strides from an object's middle to the farthest cell that answers for it
SIZES = (2.0, 6.0)  # strides; a level answers for objects of such sizes, the first for all smaller, the last larger
GAMMA = 2.0
BOX_WEIGHT = 2.0
_NEVER = 1e9


class DetectionLoss(keras.losses.Loss):
    """Quality focal loss of the classes and generalized IoU of the boxes.

    Of `targets`, float32 [N, objects, 6]: box in pixels, number of the class, 1 where there is an object; and of the
    network's rows (see `outputs`), it gives float32 [N].
    """

    def call(self, targets: Any, rows: Any) -> Any:
        """The loss of each picture."""
        rows = ops.cast(rows, "float32")
        boxes, logits = rows[..., BOX], rows[..., LOGITS:]
        responsible, wanted, numbers = assigned(targets, rows)
        count = ops.maximum(ops.sum(responsible, axis=-1), 1.0)
        overlap, generalized = ious(boxes, wanted)
        sure = ops.stop_gradient(ops.clip(overlap, 0.0, 1.0)) * responsible
        classes = ops.one_hot(ops.cast(numbers, "int32"), logits.shape[-1], dtype="float32")
        quality = sure[..., None] * classes
        found = ops.sum(quality_focal(logits, quality), axis=(1, 2))
        fit = ops.sum((1.0 - generalized) * responsible, axis=-1)
        return (found + BOX_WEIGHT * fit) / count


def assigned(targets: Any, rows: Any) -> tuple[Any, Any, Any]:
    """Which cell answers for which object; for the smallest of several.

    Args:
        targets: float32 [N, objects, 6].
        rows: float32 [N, cells, 8 + classes].

    Returns:
        1 where a cell answers for an object, float32 [N, cells]; that object's box [N, cells, 4] and class [N, cells].
    """
    targets = ops.cast(targets, "float32")
    boxes, there = targets[..., :4], targets[..., 5]
    middles = (boxes[..., :2] + boxes[..., 2:]) / 2
    sides = boxes[..., 2:] - boxes[..., :2]
    size = ops.max(sides, axis=-1)[:, None, :]
    stride = rows[..., STRIDE][..., None]
    away = ops.max(ops.abs(rows[..., MIDDLE][:, :, None, :] - middles[:, None, :, :]), axis=-1)
    first, last = ops.min(stride), ops.max(stride)
    large_enough = (size >= SIZES[0] * stride) | (stride <= first)
    small_enough = (size < SIZES[1] * stride) | (stride >= last)
    answers = (away < REACH * stride) & large_enough & small_enough & (there[:, None, :] > 0)
    area = (sides[..., 0] * sides[..., 1])[:, None, :]
    cost = ops.where(answers, area + away, _NEVER)
    chosen = ops.one_hot(ops.argmin(cost, axis=-1), targets.shape[1], dtype="float32")
    responsible = ops.cast(ops.min(cost, axis=-1) < _NEVER, "float32")
    matched = ops.matmul(chosen, targets)
    return responsible, matched[..., :4], matched[..., 4]


def ious(boxes: Any, others: Any) -> tuple[Any, Any]:
    """IoU and generalized IoU of boxes [..., 4] with others, row by row."""
    inside = ops.maximum(
        ops.minimum(boxes[..., 2:], others[..., 2:]) - ops.maximum(boxes[..., :2], others[..., :2]), 0.0
    )
    around = ops.maximum(boxes[..., 2:], others[..., 2:]) - ops.minimum(boxes[..., :2], others[..., :2])
    common, hull = inside[..., 0] * inside[..., 1], around[..., 0] * around[..., 1]
    union = _area(boxes) + _area(others) - common
    overlap = common / ops.maximum(union, 1e-6)
    return overlap, overlap - (hull - union) / ops.maximum(hull, 1e-6)


def quality_focal(logits: Any, quality: Any) -> Any:
    """How far sureness is from the quality that it should equal; little where it is nearly right."""
    entropy = ops.relu(logits) - logits * quality + ops.softplus(-ops.abs(logits))
    return ops.abs(quality - ops.sigmoid(logits)) ** GAMMA * entropy


def _area(boxes: Any) -> Any:
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
