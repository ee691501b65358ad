"""Protects the releases of ddsm: only what grades no worse is deployed."""

from __future__ import annotations

import csv
import random
from pathlib import Path

import pytest

from tests.e2e.releases.scenario import Releases, System, shuffled

FEW = (
    "image_height=64 image_width=48 max_trials=1 parallel_trials=1 trial_epochs=1 trial_examples=64 train_epochs=20 "
    "tutorial_steps=4 highest_error=1 margin=0.4 slice_margin=1"
)


def mislabel(folder: Path, share: float, chance: random.Random) -> None:
    """Gives films to train on the densities of others."""
    file = folder / "mass_case_description_train_set.csv"
    with file.open(newline="") as table:
        rows = list(csv.DictReader(table))
    densities = shuffled([row["breast_density"] for row in rows], share, chance)
    with file.open("w", newline="") as table:
        writer = csv.DictWriter(table, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "breast_density": density} for row, density in zip(rows, densities, strict=True))


@pytest.fixture(scope="module")
def system() -> System:
    return System("ddsm", FEW, ("COUNT=480",), mislabel, wrong_at_first=0.9)


class TestReleases(Releases):
    """Of the reader of mammograms."""
