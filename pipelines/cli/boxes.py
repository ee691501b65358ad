"""Answers that are boxes in a picture, as TensorFlow's detectors give them: shown as a table, and drawn."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

LEAST = 0.4
"""Detections of lower scores are neither shown nor drawn."""

COLOUR = (255, 120, 20)


class Detection(NamedTuple):
    """One object that was found.

    Attributes:
        name: of its class.
        score: from 0 to 1.
        box: (ymin, xmin, ymax, xmax), as shares of the picture's height and width.
    """

    name: str
    score: float
    box: tuple[float, float, float, float]


def are_in(answer: Any) -> bool:
    """Whether an answer holds boxes."""
    return isinstance(answer, Mapping) and {"detection_boxes", "detection_scores"} <= answer.keys()


def detections(answer: Mapping[str, Any]) -> list[Detection]:
    """The objects of an answer that are sure enough, the surest first."""
    scores = answer["detection_scores"]
    names = answer.get("detection_class_names") or map(str, answer.get("detection_classes", [""] * len(scores)))
    found = [
        Detection(name, score, (box[0], box[1], box[2], box[3]))
        for name, score, box in zip(names, scores, answer["detection_boxes"], strict=True)
        if score >= LEAST
    ]
    return sorted(found, key=lambda each: -each.score)


def table(answer: Mapping[str, Any]) -> Table:
    """The objects of an answer, one a row."""
    shown = Table("object", "score", "ymin", "xmin", "ymax", "xmax", box=None, pad_edge=False)
    for name, score, box in detections(answer):
        shown.add_row(name, f"{score:.3f}", *(f"{side:.3f}" for side in box))
    if not shown.row_count:
        shown.add_row("nothing", "", "", "", "", "")
    return shown


def draw(instance: Any, answer: Mapping[str, Any], path: Path) -> bool:
    """Writes the picture that was sent, with the boxes of its objects; tells whether a picture was sent.

    Args:
        instance: as it was sent; a picture is in `bytes_inputs`.
        answer: to it.
        path: the PNG file to write.
    """
    from PIL import Image, ImageDraw

    sent = instance.get("bytes_inputs") if isinstance(instance, Mapping) else None
    if not isinstance(sent, Mapping):
        return False
    picture = Image.open(io.BytesIO(base64.b64decode(sent["b64"]))).convert("RGB")
    pen = ImageDraw.Draw(picture)
    line = max(2, max(picture.size) // 300)
    size = max(10, max(picture.size) // 50)
    for name, score, (top, left, bottom, right) in reversed(detections(answer)):
        corners = left * picture.width, top * picture.height, right * picture.width, bottom * picture.height
        pen.rectangle(corners, outline=COLOUR, width=line)
        at, text = (corners[0] + line, max(0.0, corners[1] - size - line)), f"{name} {100 * score:.0f} %"
        pen.rectangle(pen.textbbox(at, text, font_size=size), fill=COLOUR)
        pen.text(at, text, fill=(0, 0, 0), font_size=size)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, "PNG")
    return True
