"""Mammograms: ingest against a bare loop over its files, and training from its examples against a fixed batch."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from images.trainer.ingest import ingest
from images.trainer.sample import sample
from images.trainer.systems.ddsm.data import HEIGHT, WIDTH
from tests.bench.measurement import MANY, Measurement, at_least, best_seconds

FILMS = 1440

# Trains on the examples and on one of their batches again and again; in a process of its own, as a training is. By
# processor time, which counts all that making the batches takes, also where it fills a gap that a step leaves.
PROGRAM = """
import json, sys, time
import tensorflow as tf
from images.trainer.learning import Learner
from images.trainer.systems.ddsm.hyperparameters import Hyperparameters
from tests.bench.measurement import best_seconds

learner = Learner("ddsm", sys.argv[1], Hyperparameters(), 1, seed=1)
batches = learner._training_data(1)
steps = int(batches.cardinality())
fixed = tf.data.Dataset.from_tensors(next(iter(batches))).repeat(steps).with_options(batches.options())
fit = lambda data: learner._backend.fit(learner.network, data)
fit(batches)
both = lambda: fit(learner._training_data(1)), lambda: fit(fixed)
fed, still = best_seconds(*both, rounds=4, clock=time.process_time)
print(json.dumps([steps * 16 / fed, steps * 16 / still]))
"""


def bare(files: list[Path]) -> int:
    """Decodes, resizes and pads each file the way a notebook would, and keeps nothing."""
    total = 0
    for file in files:
        image = Image.open(file).convert("F")
        scale = min(WIDTH / image.width, HEIGHT / image.height)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
        canvas[: size[1], : size[0]] = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
        total += canvas.size
    return total


def measurements() -> Iterator[Measurement]:
    """Measures on a sample of phantoms, the files in the page cache."""
    with tempfile.TemporaryDirectory() as folder:
        source, examples = Path(folder) / "source", Path(folder) / "examples"
        with contextlib.redirect_stdout(io.StringIO()):
            sample("ddsm", source, count=FILMS)
            images = sorted(source.rglob("*.png"))
            loop, core = best_seconds(
                lambda: bare(images),
                lambda: ingest("ddsm", source, examples, {}, processes=1),
                rounds=MANY,
                clock=time.process_time,
            )
        yield at_least(
            "ingest of mammograms, one process / bare decode-resize loop",
            loop / core,
            0.7,
            f"{FILMS / core:,.0f} films/s against {FILMS / loop:,.0f}, by CPU time",
        )
        made = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(examples)], capture_output=True, text=True, check=True
        )
        fed, still = json.loads(made.stdout.splitlines()[-1])
        yield at_least(
            "training on mammograms from TFRecords / on a fixed batch",
            fed / still,
            0.9,
            f"{fed:,.0f} films/s against {still:,.0f}, by CPU time",
        )
