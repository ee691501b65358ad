"""Ingest against a bare loop over its files, alone and in two processes, and reading against a plain read."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from images.trainer import workers
from images.trainer.ingest import ingest
from images.trainer.sample import sample
from tests.bench.measurement import MANY, Measurement, at_least, best_seconds

WORDS = 10_000
WIDTH, HEIGHT = 128, 32


def bare(files: list[Path]) -> int:
    """Decodes, resizes and pads each file the way a notebook would, and keeps nothing."""
    total = 0
    for file in files:
        image = Image.open(file).convert("L")
        scale = min(WIDTH / image.width, HEIGHT / image.height)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        image = image.resize(size, Image.Resampling.BILINEAR)
        canvas = np.full((HEIGHT, WIDTH), 255, np.uint8)
        canvas[: image.height, : image.width] = np.asarray(image)
        total += canvas.size
    return total


def at_once(processes: int, files: list[Path]) -> None:
    """The bare loop over the same files in so many processes, of the pool that ingest has."""
    with workers.Workers(files, processes) as pool:
        deque(pool.map(_bare, range(processes)), maxlen=0)


def _bare(files: list[Path], _: int) -> int:
    return bare(files)


def plain_read(files: list[Path]) -> int:
    """Reads whole files into memory."""
    return sum(len(file.read_bytes()) for file in files)


def reader(files: list[Path]) -> Callable[[], int]:
    """A function that reads the same files as records, through TensorFlow, up to each image's raw pixels."""
    import tensorflow as tf

    from images.trainer.examples import untuned

    wanted = {"image": tf.io.FixedLenFeature([], tf.string), "label": tf.io.VarLenFeature(tf.int64)}
    records = tf.data.TFRecordDataset([str(file) for file in files], num_parallel_reads=workers.cores())
    batches = records.batch(256).map(
        lambda batch: tf.io.decode_raw(tf.io.parse_example(batch, wanted)["image"], tf.uint8),
        num_parallel_calls=workers.cores(),
    )
    batches = batches.with_options(untuned())
    return lambda: sum(batch.shape[0] for batch in batches)


def measurements() -> Iterator[Measurement]:
    """Measures on a sample of words, the files in the page cache."""
    with tempfile.TemporaryDirectory() as folder:
        source, examples = Path(folder) / "source", Path(folder) / "examples"
        with contextlib.redirect_stdout(io.StringIO()):
            sample("crnn", source, "words", WORDS)
            images = sorted(source.rglob("*.png"))

            def ingested(processes: int) -> None:
                ingest("crnn", source, examples, {"width": WIDTH, "height": HEIGHT}, processes=processes)

            loop, core = best_seconds(lambda: bare(images), lambda: ingested(1), rounds=MANY, clock=time.process_time)
            one, two, alone, together = best_seconds(
                lambda: ingested(1),
                lambda: ingested(2),
                lambda: at_once(1, images),
                lambda: at_once(2, images),
                rounds=MANY,
            )
        yield at_least(
            "ingest, one process / bare decode-resize loop",
            loop / core,
            0.7,
            f"{WORDS / core:,.0f} words/s against {WORDS / loop:,.0f}, by CPU time",
        )
        yield at_least(
            "ingest, two processes / one",
            one / two,
            1.6,
            f"{WORDS / two:,.0f} words/s against {WORDS / one:,.0f}; {workers.cores()} cores here",
        )
        # Two cores of a cloud are often one that takes turns: what they can give is measured too.
        gained = 2 * alone / together
        detail = f"{len(images) / alone:,.0f} words/s in one, {2 * len(images) / together:,.0f} in two"
        yield Measurement("two bare loops at once / one", gained, "reported", True, detail)
        shards = sorted(examples.rglob("*.tfrecord"))
        plain, records = best_seconds(lambda: plain_read(shards), reader(shards))
        size = sum(shard.stat().st_size for shard in shards) / 1e6
        yield Measurement(
            "reading the TFRecords / plain file read",
            plain / records,
            "reported",
            True,
            f"{WORDS / records:,.0f} words/s; {size / records:,.0f} MB/s against {size / plain:,.0f}",
        )
