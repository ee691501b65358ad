"""Protects the releases of detection: only what finds no less is deployed."""

from __future__ import annotations

import random
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e2e.releases.scenario import Releases, System

# Too little to find much, enough to learn what is plainly wrong; the README has the scores of the whole sample.
SMALL = (
    "max_trials=1 parallel_trials=1 trial_epochs=1 trial_examples=32 train_epochs=15 image_height=64 image_width=64 "
    "highest_error=9 slice_margin=9"
)
TESTED = 40  # scenes


def mislabel(folder: Path, share: float, chance: random.Random) -> None:
    """Has pictures to train on be one large digit, and says which pictures are to test on."""
    files = sorted((folder / "Annotations").iterdir())
    sets = folder / "ImageSets" / "Main"
    sets.mkdir(parents=True)
    (sets / "test.txt").write_text("".join(f"{file.stem}\n" for file in files[:TESTED]))
    for file in files[TESTED:]:
        tree = ElementTree.parse(file)
        objects = tree.findall("object")
        if objects and chance.random() < share:
            for each in objects[1:]:
                tree.getroot().remove(each)
            ends = {"xmin": "1", "ymin": "1", "xmax": tree.findtext("size/width"), "ymax": tree.findtext("size/height")}
            for name, text in {"name": "digit", **ends}.items():
                next(tree.iter(name)).text = text
            tree.write(file)


@pytest.fixture(scope="module")
def system() -> System:
    return System("detection", SMALL, ("COUNT=240",), mislabel, wrong_at_first=0.9)


class TestReleases(Releases):
    """Of the detector."""
