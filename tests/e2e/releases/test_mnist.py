"""Protects the releases of mnist: only what errs no more is deployed."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from tests.e2e.releases.scenario import Releases, System, shuffled

# Enough to tell most digits apart; the README has the full score.
SMALL = "max_trials=1 parallel_trials=1 trial_epochs=1 trial_examples=500 train_epochs=15 classic_steps=60"


def mislabel(folder: Path, share: float, chance: random.Random) -> None:
    """Gives digits to train on the labels of others."""
    file = folder / "train-labels-idx1-ubyte.gz"
    content = gzip.decompress(file.read_bytes())
    file.write_bytes(gzip.compress(content[:8] + bytes(shuffled(content[8:], share, chance)), mtime=0))


@pytest.fixture(scope="module")
def system() -> System:
    return System("mnist", f"{SMALL} highest_error=1", ("COUNT=600",), mislabel, wrong_at_first=0.8)


class TestReleases(Releases):
    """Of the digit reader."""
