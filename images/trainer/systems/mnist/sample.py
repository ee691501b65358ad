"""Sample digits in MNIST's four IDX files: real ones, scikit-learn's, scaled up from 8 x 8 pixels.

They are the test set of UCI's "Optical Recognition of Handwritten Digits": pen strokes of 13 people. Each is smoothly
enlarged to MNIST's 20 x 20 box and placed by its centre of mass in 28 x 28. The last sixth, of other people than most
of the rest, is the test set.
"""

from __future__ import annotations

import gzip
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from images.executor import UserError

KINDS = ("digits",)
DEFAULT_COUNT = 1797
UNIT = "digits"

_TEST_SHARE = 6  # One in so many.
_BOX, _SIDE = 20, 28


class Job(NamedTuple):
    """All the digits: there are too few to share the work out."""

    count: int
    seed: int


class Written(NamedTuple):
    """How many digits were written."""

    done: int


def plan(kind: str, count: int, seed: int) -> list[Job]:
    """One job.

    Raises:
        UserError: more digits are asked for than there are, or too few to hold any out.
    """
    if not _TEST_SHARE <= count <= DEFAULT_COUNT:
        raise UserError(f"--count={count}: there are {DEFAULT_COUNT} digits; give {_TEST_SHARE} to {DEFAULT_COUNT}")
    return [Job(count, seed)]


def draw(folder: Path, job: Job) -> Written:
    """Writes the four files; the seed decides the order of the digits."""
    from sklearn.datasets import load_digits

    pool = load_digits()
    first_of_test = job.count - job.count // _TEST_SHARE
    chance = np.random.default_rng(job.seed)
    for name, part in (("train", np.arange(first_of_test)), ("t10k", np.arange(first_of_test, job.count))):
        order = chance.permutation(part)
        pixels = np.stack([enlarged(pool.images[index]) for index in order])
        _write(folder / f"{name}-images-idx3-ubyte.gz", pixels)
        _write(folder / f"{name}-labels-idx1-ubyte.gz", pool.target[order].astype(np.uint8))
    return Written(job.count)


def finish(folder: Path, results: Iterable[Any]) -> None:
    """Nothing is left to write."""


def enlarged(small: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """A digit of 8 x 8 (0 to 16) as one of 28 x 28 (0 to 255), its centre of mass in the middle."""
    grey = Image.fromarray(np.asarray(small * (255 / 16), np.uint8))
    large = np.asarray(grey.resize((_BOX, _BOX), Image.Resampling.BICUBIC), float)
    ink = np.clip((large - 40) * 1.4, 0, 255)  # Enlarging leaves a grey fog around strokes.
    places = [round((_SIDE - 1) / 2 - center) for center in _centre(ink)]
    top, left = (min(max(place, 0), _SIDE - _BOX) for place in places)
    canvas = np.zeros((_SIDE, _SIDE), np.uint8)
    canvas[top : top + _BOX, left : left + _BOX] = ink.round()
    return canvas


def _centre(ink: npt.NDArray[np.float64]) -> Sequence[float]:
    steps = np.arange(_BOX)
    return [float((ink.sum(axis=1 - axis) * steps).sum() / ink.sum()) for axis in (0, 1)]


def _write(path: Path, array: npt.NDArray[np.uint8]) -> None:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes(), mtime=0))
