"""Sample points, evenly spread."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .data import CLASSES, FILE

KINDS = ("even",)
DEFAULT_COUNT = 600
UNIT = "points"


class Job(NamedTuple):
    """All points."""

    count: int
    seed: int


class Written(NamedTuple):
    """How many were written."""

    done: int


def plan(kind: str, count: int, seed: int) -> list[Job]:
    """One job."""
    return [Job(count, seed)]


def draw(folder: Path, job: Job) -> Written:
    """Writes the points."""
    points = np.random.default_rng(job.seed).uniform(-1, 1, (job.count, 2)).round(4)
    quadrant = {(True, True): 0, (False, True): 1, (False, False): 2, (True, False): 3}
    lines = [f"{x},{y},{CLASSES[quadrant[bool(x > 0), bool(y > 0)]]}" for x, y in points]
    (folder / FILE).write_text("\n".join(lines) + "\n")
    return Written(job.count)


def finish(folder: Path, results: Iterable[Any]) -> None:
    """Nothing is left to write."""
