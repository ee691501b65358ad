"""What a release of the detector compares: objects missed and false alarms, for each object that there is.

Average precision is no mean over pictures. What a client of the endpoint sees is: which objects the sure detections
find (the same class, an overlap of one half or more), and which of them are none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from images.trainer.gate import Errors
from images.trainer.picture_files import requests
from images.trainer.systems.detection.model import SURE

__all__ = ["METRIC", "errors", "requests", "slices"]

METRIC = "errors_per_object"
OVERLAP = 0.5
SMALL = 1 / 8  # of the canvas' side
Array = npt.NDArray[Any]


def errors(truths: Sequence[Any], answers: Mapping[str, Sequence[Any]]) -> Errors:
    """Objects missed and false alarms of each picture; its objects. A difficult object is neither."""
    wrong, whole = [], []
    for number, truth in enumerate(np.asarray(truths, float).reshape(len(truths), -1, 6)):
        sure = np.asarray(answers["detection_scores"][number]) > SURE
        boxes = np.asarray(answers["detection_boxes"][number], float)[sure]
        names = np.asarray(answers["detection_classes"][number])[sure] - 1  # Clients count from 1.
        there = truth[truth[:, 4] >= 0]
        easy = there[:, 5] == 0
        missed, alarms = _matched(there, easy, boxes, names)
        wrong.append(missed + alarms)
        whole.append(easy.sum())
    return Errors(np.array(wrong, np.float64), np.array(whole, np.float64))


def slices(truths: Sequence[Any], features: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Pictures with an object of each class, and with a small one."""
    every = np.asarray(truths, float).reshape(len(truths), -1, 6)
    present = every[..., 4] >= 0
    names = np.unique(every[..., 4][present]).astype(int)
    sides = np.sqrt(np.maximum((every[..., 2] - every[..., 0]) * (every[..., 3] - every[..., 1]), 0.0))
    found = {f"pictures with class {name}": ((every[..., 4] == name) & present).any(axis=1) for name in names}
    return found | {"pictures with small objects": ((sides < SMALL) & present).any(axis=1)}


def _matched(truth: Array, easy: Array, boxes: Array, names: Array) -> tuple[int, int]:
    """How many easy objects no detection finds, and how many detections, the surest first, find none."""
    free = np.ones(len(truth), bool)
    alarms = 0
    for box, name in zip(boxes, names, strict=True):
        overlaps = np.where(free & (truth[:, 4] == name), _overlaps(box, truth[:, :4]), 0.0)
        best = int(overlaps.argmax()) if len(overlaps) else -1
        if best >= 0 and overlaps[best] >= OVERLAP:
            free[best] = False
        else:
            alarms += 1
    return int((free & easy).sum()), alarms


def _overlaps(box: Array, others: Array) -> Array:
    """Intersection over union of a box [4] with others [N, 4]."""
    sides = np.maximum(np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2]), 0.0)
    common = sides.prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return common / np.maximum(areas - common, 1e-12)
