"""Sample irises: scikit-learn's copy of Fisher's table, as one CSV."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from images.executor import UserError
from images.trainer.systems.iris.data import CLASSES, LABEL, NAMES

KINDS = ("fisher",)
DEFAULT_COUNT = 150
UNIT = "rows"


class Job(NamedTuple):
    """The whole table."""

    count: int
    seed: int


class Written(NamedTuple):
    """How many rows were written."""

    done: int


def plan(kind: str, count: int, seed: int) -> list[Job]:
    """One job.

    Raises:
        UserError: more rows are asked for than there are.
    """
    if count > DEFAULT_COUNT:
        raise UserError(f"--count={count}: there are {DEFAULT_COUNT} irises; give at most so many")
    return [Job(count, seed)]


def draw(folder: Path, job: Job) -> Written:
    """Writes iris.csv; the seed decides the order of the rows, and which are there when not all are."""
    from sklearn.datasets import load_iris

    irises = load_iris()
    order = np.random.default_rng(job.seed).permutation(len(irises.data))[: job.count]
    lines = [",".join((*NAMES, LABEL))]
    lines += [",".join((*(f"{number:g}" for number in irises.data[i]), CLASSES[irises.target[i]])) for i in order]
    (folder / "iris.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Written(job.count)


def finish(folder: Path, results: Iterable[Any]) -> None:
    """Nothing is left to write."""
