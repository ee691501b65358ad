"""Sample scenes in Pascal VOC's layout: real digits and drawn shapes, scattered over textured backgrounds.

The digits are scikit-learn's, the pen strokes of 13 people (the test set of UCI's "Optical Recognition of Handwritten
Digits"), smoothly enlarged; circles, squares and triangles are drawn. Every object's box is that of its ink, to the
pixel. Backgrounds are noise of several scales under a gradient of colours. A score on these scenes says that the
machinery works, not how well photographs will go.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

KINDS = ("objects", "digits")
"""All digits as one class beside the shapes, or each digit as a class of its own and no shapes."""

DEFAULT_COUNT = 900
UNIT = "scenes"

_SHAPES = ("circle", "square", "triangle")
_SCENES_A_JOB = 50
_SIDES = ((160, 240), (128, 224))  # least and most columns, and rows
_MOST_OBJECTS = 5
_SIZES = (0.14, 0.45)  # of the scene's shorter side
_MOST_HIDDEN = 0.1  # share of the smaller box that another may cover
_SCALES = (4, 12, 40)  # pixels, of the background's noise
_TRIES = 20

Mask = npt.NDArray[np.float64]
Box = tuple[int, int, int, int]


class Job(NamedTuple):
    """Some scenes."""

    kind: str
    seed: int
    first: int
    count: int


class Written(NamedTuple):
    """How many scenes were written."""

    done: int


def plan(kind: str, count: int, seed: int) -> list[Job]:
    """Shares the scenes out."""
    return [Job(kind, seed, at, min(_SCENES_A_JOB, count - at)) for at in range(0, count, _SCENES_A_JOB)]


def draw(folder: Path, job: Job) -> Written:
    """Writes scenes into `JPEGImages` and their boxes into `Annotations`; the same job gives the same bytes."""
    from sklearn.datasets import load_digits

    pool = load_digits()
    for name in ("JPEGImages", "Annotations"):
        (folder / name).mkdir(exist_ok=True)
    for number in range(job.first, job.first + job.count):
        chance = np.random.default_rng((job.seed, KINDS.index(job.kind), number))
        pixels, objects = scene(chance, job.kind, pool.images, pool.target)
        name, (height, width) = f"scene-{number:05d}", pixels.shape[:2]
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        (folder / "JPEGImages" / f"{name}.jpg").write_bytes(buffer.getvalue())
        (folder / "Annotations" / f"{name}.xml").write_text(annotation(name, width, height, objects))
    return Written(job.count)


def finish(folder: Path, results: Iterable[Any]) -> None:
    """Nothing is left to write."""


def scene(
    chance: np.random.Generator, kind: str, digits: npt.NDArray[Any], values: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.uint8], list[tuple[str, Box]]]:
    """One scene: its colours, uint8 [height, width, 3], and its objects: class and (ymin, xmin, ymax, xmax)."""
    width, height = (int(chance.integers(*sides)) for sides in _SIDES)
    paper = _background(chance, height, width)
    objects: list[tuple[str, Box]] = []
    for _ in range(int(chance.integers(1, _MOST_OBJECTS + 1))):
        side = int(chance.uniform(*_SIZES) * min(height, width))
        if kind == "digits" or chance.random() < 0.5:
            index = int(chance.integers(len(values)))
            name, mask = ("digit" if kind == "objects" else str(values[index])), digit(digits[index], side, chance)
        else:
            name = _SHAPES[chance.integers(len(_SHAPES))]
            mask = shape(name, side, chance)
        place = _place(chance, mask, [box for _, box in objects], height, width)
        if place is not None:
            paper = _laid(paper, mask, place, chance)
            objects.append((name, _box(mask, place)))
    return np.clip(paper, 0, 255).round().astype(np.uint8), objects


def digit(small: npt.NDArray[Any], side: int, chance: np.random.Generator) -> Mask:
    """A digit of 8 x 8 (0 to 16) as strokes of about `side` pixels, a little turned; from 0 to 1."""
    grey = Image.fromarray(np.asarray(small * (255 / 16), np.uint8))
    large = grey.resize((side, side), Image.Resampling.BICUBIC).rotate(chance.uniform(-15, 15), expand=True)
    return np.clip((np.asarray(large, float) - 90) / 70, 0, 1)  # Enlarging leaves a grey fog around strokes.


def shape(name: str, side: int, chance: np.random.Generator) -> Mask:
    """A circle, square or triangle of about `side` pixels, filled or as an outline; from 0 to 1."""
    fine = 4
    canvas = Image.new("L", (fine * side, fine * side))
    pen, middle, radius = ImageDraw.Draw(canvas), fine * side / 2, fine * side / 2 - 2
    corners = {"circle": 48, "square": 4, "triangle": 3}[name]
    start = chance.uniform(0, 2 * math.pi)
    angles = [start + 2 * math.pi * number / corners for number in range(corners)]
    points = [(middle + radius * math.cos(angle), middle + radius * math.sin(angle)) for angle in angles]
    if chance.random() < 0.6:
        pen.polygon(points, fill=255)
    else:
        pen.line([*points, *points[:2]], fill=255, width=max(fine * side // 9, 2 * fine), joint="curve")
    return np.asarray(canvas.resize((side, side), Image.Resampling.BOX), float) / 255


def annotation(name: str, width: int, height: int, objects: Iterable[tuple[str, Box]]) -> str:
    """VOC's XML, in which pixels count from 1 and the last one named is inside."""
    described = "".join(
        f"  <object>\n    <name>{escape(each)}</name>\n    <truncated>0</truncated>\n    <difficult>0</difficult>\n"
        f"    <bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox>\n"
        "  </object>\n"
        for each, (top, left, bottom, right) in objects
    )
    return (
        f"<annotation>\n  <folder>JPEGImages</folder>\n  <filename>{name}.jpg</filename>\n"
        f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
        f"  <segmented>0</segmented>\n{described}</annotation>\n"
    )


def _background(chance: np.random.Generator, height: int, width: int) -> Mask:
    texture = np.zeros((height, width))
    for scale in _SCALES:
        coarse = chance.uniform(-1, 1, (height // scale + 2, width // scale + 2)).astype(np.float32)
        texture += np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    corner = chance.uniform(40, 215, (2, 3))
    slope = (
        np.linspace(0, 1, width)[None, :, None] if chance.random() < 0.5 else np.linspace(0, 1, height)[:, None, None]
    )
    colours = corner[0] * (1 - slope) + corner[1] * slope
    return colours + chance.uniform(4, 16) * texture[..., None]


def _place(
    chance: np.random.Generator, mask: Mask, others: Iterable[Box], height: int, width: int
) -> tuple[int, int] | None:
    rows, columns = mask.shape
    taken = list(others)
    for _ in range(_TRIES):
        if rows >= height or columns >= width:
            return None
        place = int(chance.integers(height - rows)), int(chance.integers(width - columns))
        box = _box(mask, place)
        if all(_covered(box, other) <= _MOST_HIDDEN for other in taken):
            return place
    return None


def _box(mask: Mask, place: tuple[int, int]) -> Box:
    rows, columns = (np.flatnonzero((mask > 0.3).any(axis=axis)) for axis in (1, 0))
    top, left = place
    return top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1


def _covered(one: Box, other: Box) -> float:
    common = math.prod(max(0, min(one[at + 2], other[at + 2]) - max(one[at], other[at])) for at in (0, 1))
    smaller = min((box[2] - box[0]) * (box[3] - box[1]) for box in (one, other))
    return common / smaller


def _laid(paper: Mask, mask: Mask, place: tuple[int, int], chance: np.random.Generator) -> Mask:
    """Ink of one colour, well darker or lighter than what is behind it."""
    top, left = place
    behind = paper[top : top + mask.shape[0], left : left + mask.shape[1]]
    level = behind.mean()
    ink = chance.uniform(0, 255, 3)
    ink += (chance.uniform(190, 250) if level < 128 else chance.uniform(5, 65)) - ink.mean()
    changed = paper.copy()
    changed[top : top + mask.shape[0], left : left + mask.shape[1]] = (
        behind * (1 - mask[..., None]) + np.clip(ink, 0, 255) * mask[..., None]
    )
    return changed
