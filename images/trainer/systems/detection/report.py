"""What the evaluation of a detector shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from images.trainer.report import Number, Section, curves, learning_curve, percent, picture, plots
from images.trainer.systems.detection import metrics
from images.trainer.systems.detection.drawing import SHOWN, draw, of_example
from images.trainer.systems.detection.metrics import SIZES, Curve

TITLE = "Finding objects in pictures"

PICTURES = 24
SUMMARIES = 8
_MOST_CURVES = 10


def numbers(rates: Mapping[str, float]) -> list[Number]:
    """The numbers at the top."""
    tested = f"{rates['objects']:,} objects in {rates['pictures']:,} test pictures"
    return [
        Number("Mean average precision", _score(rates, "map"), "COCO's: overlaps from 0.5 to 0.95"),
        Number("AP50", _score(rates, "ap50"), f"VOC's: {_score(rates, 'voc_ap50')}"),
        Number("AP75", _score(rates, "ap75"), "boxes that fit well"),
        Number("Recall", _score(rates, "recall"), tested),
    ]


def sections(
    rates: Mapping[str, float],
    truths: Sequence[Any],
    answers: Mapping[str, Sequence[Any]],
    features: Mapping[str, Sequence[Any]],
    history: Mapping[str, Sequence[float]],
) -> list[Section]:
    """Everything below the numbers.

    Args:
        rates: from `metrics.evaluate`.
        truths: of each picture [objects, 6], see `model.truths`.
        answers: of each picture, see `model.answers`.
        features: `image` (uint8 [height, width, 3]) and `key` of each picture.
        history: the columns of history.csv.
    """
    by_class = metrics.curves(truths, answers)
    return [
        _learning(history),
        _precision(by_class),
        _classes(by_class),
        _sizes(rates, truths),
        _pictures(truths, answers, features),
    ]


def summaries(
    truths: Sequence[Any], answers: Mapping[str, Sequence[Any]], features: Mapping[str, Sequence[Any]]
) -> list[npt.NDArray[np.uint8]]:
    """The first pictures with truths and detections, uint8 [height, width, 3] each, for TensorBoard."""
    return [
        draw(np.asarray(features["image"][index]), truths[index], of_example(answers, index))
        for index in range(min(SUMMARIES, len(truths)))
    ]


def _learning(history: Mapping[str, Sequence[float]]) -> Section:
    if "val_map" not in history:  # Nobody has followed the training.
        return learning_curve(history, metrics.MONITOR, "1 - AP50, %", "pictures", "Training pictures are augmented.")
    losses = {"training": history["loss"], "validation": history["val_loss"]}
    scores = {"AP50": [100 * rate for rate in history["val_ap50"]], "mAP": [100 * rate for rate in history["val_map"]]}
    best = int(np.argmax(history["val_map"])) + 1
    note = (
        f"The weights are those of epoch {best}, the best by mAP on validation pictures, measured by the task follow "
        "while training went on. Training pictures are augmented."
    )
    return Section("Learning curve", note, curves([("Loss", True, losses), ("Validation, %", False, scores)], "epoch"))


def _precision(by_class: Mapping[str, Curve]) -> Section:
    first = dict(sorted(by_class.items(), key=lambda each: -each[1].objects)[:_MOST_CURVES])

    def draw_curves(axes: Any) -> None:
        for number, (name, curve) in enumerate(first.items()):
            last = curve.recall[-1] if len(curve.recall) else 0.0  # There is none of a class that is never found.
            recall, precision = np.append(curve.recall, last), np.append(curve.precision, 0.0)
            axes.plot(recall, precision, color=f"C{number}", label=name, linewidth=2)
        axes.set_xlim(0, 1.02)
        axes.set_ylim(0, 1.04)
        axes.set_xlabel("recall")
        axes.legend(frameon=False, loc="lower left")

    panels: list[tuple[str, Callable[[Any], None]]] = [("Precision", draw_curves)]
    note = "At an overlap of one half, the surest detections first."
    left = len(by_class) - len(first)
    return Section(
        "Precision and recall", note + (f" {left} rarer classes are left out." if left else ""), plots(panels)
    )


def _classes(by_class: Mapping[str, Curve]) -> Section:
    rows = [
        (
            name,
            f"{curve.average_precision:.3f}",
            percent(curve.recall[-1]) if len(curve.recall) else "none",
            str(curve.objects),
        )
        for name, curve in by_class.items()
    ]
    note = "Pascal VOC's average precision at an overlap of one half; what is found at any sureness."
    return Section("By class", note, None, ("class", "AP50", "found", "objects"), rows)


def _sizes(rates: Mapping[str, float], truths: Sequence[Any]) -> Section:
    every = np.asarray(truths, float).reshape(-1, 6)
    there = every[(every[:, 4] >= 0) & (every[:, 5] == 0)]
    sides = np.sqrt(np.prod(there[:, 2:4] - there[:, :2], axis=-1))
    rows = []
    for name, (low, high) in SIZES.items():
        bounds = f"{low:g} to {high:g}" if high <= 1 else f"from {low:g}"
        count = int(((sides >= low) & (sides < high)).sum())
        rows.append((name, bounds, _score(rates, f"map_{name}"), str(count)))
    note = "A side is the square root of the area, as a share of the canvas'."
    return Section("By size", note, None, ("size", "side", "mAP", "objects"), rows)


def _pictures(
    truths: Sequence[Any], answers: Mapping[str, Sequence[Any]], features: Mapping[str, Sequence[Any]]
) -> Section:
    """Those with most wrong first: objects that nothing surely found, and sure detections of nothing."""
    wrong = [_mistakes(truth, of_example(answers, index)) for index, truth in enumerate(truths)]
    ranked = sorted(range(len(truths)), key=lambda index: (-wrong[index], index))[:PICTURES]
    names = [name.decode() for name in answers["classes"][0]]
    shown = []
    for index in ranked:
        numbers = sorted(int(row[4]) for row in truths[index] if row[4] >= 0)
        truth = ", ".join(names[number] for number in numbers) or "nothing"
        pixels = draw(np.asarray(features["image"][index]), truths[index], of_example(answers, index))
        detail = f"{wrong[index]} wrong · {features['key'][index].decode()}"
        shown.append((picture(pixels), truth, answers["objects"][index].decode(), detail))
    note = f"Truths in green, detections of at least {percent(SHOWN)} in orange; those with most mistakes first."
    return Section("Pictures", note, pictures=shown, photographs=True)


def _mistakes(truth: Any, answer: Mapping[str, Any]) -> int:
    """Objects without a sure detection of their class that overlaps by half, and sure detections without an object."""
    rows = np.asarray(truth, float).reshape(-1, 6)
    rows = rows[rows[:, 4] >= 0]
    sure = np.asarray(answer["detection_scores"]) >= SHOWN
    boxes, numbers = np.asarray(answer["detection_boxes"])[sure], np.asarray(answer["detection_classes"])[sure]
    taken: set[int] = set()
    missed = 0
    for row in rows:
        fitting = [
            (_overlap(row[:4], box), place)
            for place, box in enumerate(boxes)
            if place not in taken and numbers[place] == int(row[4])
        ]
        overlap, place = max(fitting, default=(0.0, -1))
        if overlap >= 0.5:
            taken.add(place)
        elif not row[5]:
            missed += 1
    return missed + len(boxes) - len(taken)


def _overlap(one: Any, other: Any) -> float:
    inside = np.maximum(np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2]), 0).prod()
    union = np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2]) - inside
    return float(inside / union) if union > 0 else 0.0


def _score(rates: Mapping[str, float], name: str) -> str:
    return f"{rates[name]:.3f}" if name in rates else "none"
