"""Protects what is shown of a detector's answer: sure objects, drawn where they are."""

import base64
import io

import numpy as np
from PIL import Image

from pipelines.cli import boxes

ANSWER = {
    "detection_boxes": [[0.25, 0.5, 0.75, 1.0], [0.1, 0.1, 0.2, 0.2], [0, 0, 0, 0]],
    "detection_scores": [0.9, 0.1, 0.0],
    "detection_class_names": ["cat", "dog", ""],
    "num_detections": 2,
}


def test_only_answers_with_boxes_are_drawn():
    assert boxes.are_in(ANSWER)
    assert not boxes.are_in({"text": "word", "confidence": 0.5})
    assert not boxes.are_in([0.1, 0.9])


def test_sure_objects_are_listed():
    assert boxes.detections(ANSWER) == [("cat", 0.9, (0.25, 0.5, 0.75, 1.0))]
    numbered = {name: value for name, value in ANSWER.items() if name != "detection_class_names"}
    assert boxes.detections({**numbered, "detection_classes": [3, 1, 0]})[0].name == "3"
    assert boxes.table(ANSWER).row_count == 1


def test_boxes_are_drawn_where_they_are(tmp_path):
    buffer = io.BytesIO()
    Image.new("RGB", (200, 100), (0, 0, 0)).save(buffer, "PNG")
    instance = {"bytes_inputs": {"b64": base64.b64encode(buffer.getvalue()).decode()}}
    assert boxes.draw(instance, ANSWER, tmp_path / "build" / "drawn.png")
    pixels = np.asarray(Image.open(tmp_path / "build" / "drawn.png"))
    assert pixels.shape == (100, 200, 3)
    painted = (pixels == boxes.COLOUR).all(axis=-1)
    assert painted[74, 100:].all() and painted[25:75, 101].all()
    assert not painted[:, :90].any() and not painted[80:].any()
    assert not boxes.draw({"csv_row": "1,2"}, ANSWER, tmp_path / "nothing.png")
