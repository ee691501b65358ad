"""Detection: ingest against a bare loop, a step with its input against one on a fixed batch, mAP against COCO's."""

from __future__ import annotations

import contextlib
import io
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from images.trainer.ingest import ingest
from images.trainer.sample import sample
from images.trainer.systems.detection import metrics
from tests.bench.measurement import MANY, Measurement, at_least, best_seconds

SCENES, SIDE = 600, 128
PHOTOGRAPHS, TIMES = 240, 2.5  # The sample's scenes have some 200 pixels a side; VOC's photographs 500 by 375.
PICTURES, OBJECTS, DETECTIONS, CLASSES = 500, 5, 30, 4
STEPS = 30

# In a process of its own, on one core: what the input pipeline takes, the step lacks.
STEP = """
import json, sys, time
import tensorflow as tf
tf.config.threading.set_intra_op_parallelism_threads(1)
from images.trainer import hyperparameters as spaces
from images.trainer.learning import Learner
learner = Learner("detection", sys.argv[1], spaces.of("detection")(), epochs=4, seed=1)
data = learner._training_data(1)
network = learner.network
network.fit(data.take(1), verbose=0)
fixed = tf.data.Dataset.from_tensors(next(iter(data))).repeat({steps}).with_options(data.options())
best = {{}}
for _ in range(3):
    for name, batches in (("fixed", fixed), ("read", data.take({steps}))):
        started = time.perf_counter()
        network.fit(batches, verbose=0)
        best[name] = min(best.get(name, 1e9), time.perf_counter() - started)
print(json.dumps(best))
"""


def bare(files: list[Path]) -> int:
    """Decodes each picture, scales it to fit and pads it the way a notebook would, and keeps nothing."""
    total = 0
    for file in files:
        picture = Image.open(file).convert("RGB")
        scale = min(SIDE / picture.width, SIDE / picture.height)
        small = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BILINEAR)
        canvas = np.full((SIDE, SIDE, 3), 128, np.uint8)
        canvas[: small.height, : small.width] = np.asarray(small)
        total += canvas.size
    return total


def photographs(scenes: Path, folder: Path) -> None:
    """Some of the scenes, as large as photographs are."""
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(parents=True)
    for file in sorted((scenes / "JPEGImages").iterdir())[:PHOTOGRAPHS]:
        picture = Image.open(file)
        size = round(TIMES * picture.width), round(TIMES * picture.height)
        picture.resize(size).save(folder / "JPEGImages" / file.name, quality=90)
        written = (scenes / "Annotations" / f"{file.stem}.xml").read_text()
        larger = re.sub(r"(?<=>)\d+(?=</[whxy])", lambda number: str(round(TIMES * int(number[0]))), written)
        (folder / "Annotations" / f"{file.stem}.xml").write_text(larger)


def ingest_against_bare(source: Path, examples: Path) -> tuple[float, float, int]:
    """Seconds of processor time of a bare loop over a source's pictures and of their ingest; how many there are."""
    files = sorted(source.rglob("*.jpg"))
    with contextlib.redirect_stdout(io.StringIO()):
        loop, core = best_seconds(
            lambda: bare(files),
            lambda: ingest("detection", source, examples, {"width": SIDE, "height": SIDE}, processes=1),
            rounds=MANY,
            clock=time.process_time,
        )
    return loop, core, len(files)


def pycocotools_alone(truth: Any, found: Any) -> None:
    """What a script without us would do with objects and detections that are in COCO's form already."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()


def answered() -> tuple[Any, dict[str, Any]]:
    """Truths, and a detector's answers to them, some of them near the truth."""
    chance = np.random.default_rng(0)
    corner = chance.uniform(0, 0.7, (PICTURES, OBJECTS, 2))
    boxes = np.concatenate([corner, corner + chance.uniform(0.05, 0.3, corner.shape)], axis=-1)
    numbers = chance.integers(0, CLASSES, (PICTURES, OBJECTS, 1))
    truths = np.concatenate([boxes, numbers, np.zeros_like(numbers)], axis=-1)
    times = DETECTIONS // OBJECTS
    near = np.concatenate([boxes] * times, axis=1)
    answers = {
        "detection_boxes": near + chance.normal(0, 0.01, near.shape),
        "detection_scores": chance.uniform(0.02, 1, near.shape[:2]),
        "detection_classes": np.concatenate([numbers[..., 0]] * times, axis=1),
        "classes": [[f"class {number}".encode() for number in range(CLASSES)]] * PICTURES,
    }
    return truths, answers


def in_cocos_form(truths: Any, answers: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The same as COCO's JSON has it, in pixels."""
    objects, found = [], []
    for image in range(PICTURES):
        for row in 640 * truths[image]:
            objects.append(_entry(image, row[:4], round(row[4] / 640)) | {"id": len(objects) + 1, "iscrowd": 0})
        columns = [answers[f"detection_{of}"][image] for of in ("boxes", "scores", "classes")]
        for box, score, number in zip(*columns, strict=True):
            found.append(_entry(image, 640 * box, int(number)) | {"score": float(score)})
    images = [{"id": image} for image in range(PICTURES)]
    classes = [{"id": number} for number in range(CLASSES)]
    return {"images": images, "categories": classes, "annotations": objects}, found


def _entry(image: int, box: Any, number: int) -> dict[str, Any]:
    top, left, bottom, right = map(float, box)
    sides = right - left, bottom - top
    return {"image_id": image, "category_id": number, "bbox": [left, top, *sides], "area": sides[0] * sides[1]}


def measurements() -> Iterator[Measurement]:
    """Measures on the sample's scenes, and on made-up detections."""
    with tempfile.TemporaryDirectory() as folder:
        source, examples = Path(folder) / "source", Path(folder) / "examples"
        with contextlib.redirect_stdout(io.StringIO()):
            sample("detection", source, "objects", SCENES)
        photographs(source, Path(folder) / "photographs")
        loop, core, count = ingest_against_bare(Path(folder) / "photographs", Path(folder) / "not-used")
        detail = f"{count / core:,.0f} photographs/s against {count / loop:,.0f}, by CPU time"
        yield at_least("detection: ingest, one process / bare decode-resize loop", loop / core, 0.7, detail)
        loop, core, count = ingest_against_bare(source, examples)
        detail = f"{count / core:,.0f} scenes/s against {count / loop:,.0f}, by CPU time"
        yield at_least("detection: the same with scenes of 200 pixels", loop / core, 0.7, detail)
        times = _step_times(examples)
        detail = f"{STEPS / times['read']:.1f} steps/s against {STEPS / times['fixed']:.1f}"
        yield at_least(
            "detection: step with its input pipeline / on a fixed batch", times["fixed"] / times["read"], 0.9, detail
        )
    truths, answers = answered()
    coco = in_cocos_form(truths, answers)
    ours, alone = best_seconds(
        lambda: metrics.evaluate(truths, answers, {}), lambda: pycocotools_alone(*coco), clock=time.process_time
    )
    boxes = PICTURES * DETECTIONS
    yield at_least(
        "detection: mAP, thousands of boxes a second of a core", boxes / ours / 1000, 5.0, f"{boxes:,} boxes"
    )
    detail = f"{boxes / ours:,.0f} boxes/s against {boxes / alone:,.0f}"
    yield Measurement("detection: mAP / pycocotools alone", alone / ours, "reported", True, detail)


def _step_times(examples: Path) -> dict[str, float]:
    import json

    program = STEP.format(steps=STEPS)
    process = subprocess.run([sys.executable, "-c", program, str(examples)], capture_output=True, text=True, check=True)
    times: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return times
