"""How right detections are: COCO's mean average precision, and Pascal VOC's of each class.

COCO's is pycocotools' own. Objects marked as difficult are no mistake when found and none when missed, in both. Sizes
are relative, since pictures are scaled: an object's side is the square root of its area, as a share of the canvas'.

Sources: cocodataset.org/#detection-eval; Everingham et al., "The Pascal Visual Object Classes Challenge" (2015).
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

MONITOR = "ap50_error"
CHOSEN_BY, SHOWN = "map", ("map", "ap50")
"""Of a training that is followed: the score by which the best epoch is chosen, and those that are shown."""

SIZES = {"small": (0.0, 1 / 8), "medium": (1 / 8, 1 / 4), "large": (1 / 4, 10.0)}
"""Sides of objects, from and to, as shares of the canvas'."""

_SCALE = 1000.0  # Shares become pixels, as pycocotools expects them.
_MOST = 100
Array = npt.NDArray[Any]


class Curve(NamedTuple):
    """Precision against recall of one class, at an overlap of one half.

    Attributes:
        recall: rising, one entry a detection, the surest first.
        precision: the same detections'.
        objects: how many there are to find.
        average_precision: the area under the curve, from the right made falling, as VOC measures it since 2010.
    """

    recall: Array
    precision: Array
    objects: int
    average_precision: float


def measure(truths: Sequence[Any], answers: Mapping[str, Sequence[Any]]) -> dict[str, float]:
    """One minus AP50, which is all that training asks.

    Args:
        truths: of each picture [objects, 6], see `model.truths`.
        answers: of each picture, see `model.answers`.
    """
    coco = _coco(truths, answers, overlaps=[0.5], sizes={})
    return {MONITOR: 1.0 - _mean(coco.eval["precision"][0, :, :, 0, -1])}


def evaluate(
    truths: Sequence[Any], answers: Mapping[str, Sequence[Any]], features: Mapping[str, Sequence[Any]]
) -> dict[str, float]:
    """All numbers of the report.

    Returns:
        `map`: over classes and overlaps from 0.5 to 0.95, as COCO's; `ap50` and `ap75`; `map_small`, `map_medium` and
        `map_large`; `recall`: over the same overlaps, of 100 detections a picture; `voc_ap50`, and `voc_ap50_<class>`
        of each class; `MONITOR`; and how many pictures and objects there are. What nothing can be said about is left
        out.
    """
    coco = _coco(truths, answers)
    precision, recall = coco.eval["precision"], coco.eval["recall"]
    curves = _curves(coco, _names(answers))
    ap50 = _mean(precision[0, :, :, 0, -1])
    rates = {
        "map": _mean(precision[:, :, :, 0, -1]),
        "ap50": ap50,
        "ap75": _mean(precision[5, :, :, 0, -1]),
        **{f"map_{size}": _mean(precision[:, :, :, at, -1]) for at, size in enumerate(SIZES, start=1)},
        "recall": _mean(recall[:, :, 0, -1]),
        "voc_ap50": float(np.mean([curve.average_precision for curve in curves.values()])) if curves else math.nan,
        **{f"voc_ap50_{name}": curve.average_precision for name, curve in curves.items()},
        MONITOR: 1.0 - ap50,
        "pictures": len(truths),
        "objects": sum(curve.objects for curve in curves.values()),
    }
    return {name: rate for name, rate in rates.items() if math.isfinite(rate)}


def curves(truths: Sequence[Any], answers: Mapping[str, Sequence[Any]]) -> dict[str, Curve]:
    """Precision against recall, of each class that there are objects of."""
    return _curves(_coco(truths, answers, overlaps=[0.5], sizes={}), _names(answers))


def _names(answers: Mapping[str, Sequence[Any]]) -> list[str]:
    return [name.decode() for name in answers["classes"][0]]


def _coco(
    truths: Sequence[Any],
    answers: Mapping[str, Sequence[Any]],
    overlaps: Sequence[float] | None = None,
    sizes: Mapping[str, tuple[float, float]] = SIZES,
) -> Any:
    """pycocotools' evaluation, done."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth, found = COCO(), COCO()
        images = [{"id": number} for number in range(len(truths))]
        categories = [{"id": number} for number in range(len(answers["classes"][0]))]
        for coco, rows in ((truth, _truth_rows(truths)), (found, _answer_rows(answers))):
            coco.dataset = {"images": images, "categories": categories, "annotations": _annotations(rows)}
            coco.createIndex()
        evaluation = COCOeval(truth, found, "bbox")
        parameters = evaluation.params
        if overlaps is not None:
            parameters.iouThrs = np.array(overlaps)
        all_sizes = {"all": (0.0, 100.0), **sizes}
        parameters.areaRng = [[(_SCALE * side) ** 2 for side in bounds] for bounds in all_sizes.values()]
        parameters.areaRngLbl = list(all_sizes)
        parameters.maxDets = [_MOST]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def _truth_rows(truths: Sequence[Any]) -> Array:
    """[objects, 8]: picture, class, box, 1 and whether it is difficult."""
    every = np.asarray(truths, float).reshape(len(truths), -1, 6)
    picture, place = np.nonzero(every[..., 4] >= 0)
    chosen = every[picture, place]
    return np.column_stack([picture, chosen[:, 4], chosen[:, :4], np.ones(len(picture)), chosen[:, 5]])


def _answer_rows(answers: Mapping[str, Sequence[Any]]) -> Array:
    """[detections, 8]: picture, class, box, score and 0."""
    scores = np.asarray(answers["detection_scores"], float)
    picture, place = np.nonzero(scores > 0)
    boxes, numbers = np.asarray(answers["detection_boxes"], float), np.asarray(answers["detection_classes"])
    chosen = boxes[picture, place], numbers[picture, place], scores[picture, place]
    return np.column_stack([picture, chosen[1], chosen[0], chosen[2], np.zeros(len(picture))])


def _annotations(rows: Array) -> list[dict[str, Any]]:
    corners = _SCALE * rows[:, 2:6]
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 0)
    boxes = np.column_stack([corners[:, 1], corners[:, 0], sides[:, 1], sides[:, 0]]).tolist()
    areas, scores, crowds = (sides[:, 0] * sides[:, 1]).tolist(), rows[:, 6].tolist(), rows[:, 7].astype(int).tolist()
    pictures, classes = rows[:, 0].astype(int).tolist(), rows[:, 1].astype(int).tolist()
    columns = zip(pictures, classes, boxes, areas, scores, crowds, strict=True)
    return [
        {
            "id": id,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": area,
            "score": score,
            "iscrowd": crowd,
        }
        for id, (image, category, box, area, score, crowd) in enumerate(columns, start=1)
    ]


def _curves(coco: Any, names: Sequence[str]) -> dict[str, Curve]:
    pictures = len(coco.params.imgIds)
    sizes = len(coco.params.areaRng)
    found = {}
    for number, name in enumerate(names):
        first = number * sizes * pictures
        parts = [part for part in coco.evalImgs[first : first + pictures] if part is not None]
        objects = int(sum((np.asarray(part["gtIgnore"]) == 0).sum() for part in parts))
        if objects:
            found[name] = _curve(parts, objects)
    return found


def _curve(parts: Sequence[Mapping[str, Any]], objects: int) -> Curve:
    scores = np.concatenate([part["dtScores"] for part in parts])
    matched = np.concatenate([part["dtMatches"][0] for part in parts]) > 0
    counted = np.concatenate([part["dtIgnore"][0] for part in parts]) == 0
    order = np.argsort(-scores, kind="stable")
    order = order[counted[order]]
    right = np.cumsum(matched[order])
    recall, precision = right / objects, right / np.arange(1, len(order) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    area = float(np.sum(np.diff(recall, prepend=0.0) * falling))
    return Curve(recall, precision, objects, area)


def _mean(values: Array) -> float:
    """The mean of what pycocotools could measure; it marks the rest with -1."""
    known = values[values > -1]
    return float(known.mean()) if known.size else math.nan
