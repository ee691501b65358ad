"""Protects the releases of crnn: only what reads no worse is deployed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.e2e.releases.scenario import Releases, System, shuffled

# Enough words and epochs to learn to read; the README has the full score.
SMALL = (
    "max_trials=1 parallel_trials=1 trial_epochs=1 trial_examples=400 train_epochs=8 margin=0.3 slice_margin=1 "
    "highest_error="
)


def mislabel(folder: Path, share: float, chance: random.Random) -> None:
    """Gives words the transcriptions of others; which of them are to train on, the source does not say."""
    file = folder / "words.txt"
    lines = file.read_text().splitlines()
    head = [line for line in lines if line.startswith("#")]
    words = [line.rsplit(" ", 1) for line in lines[len(head) :]]
    texts = shuffled([text for _, text in words], share, chance)
    lines = [f"{word} {text}" for (word, _), text in zip(words, texts, strict=True)]
    file.write_text("\n".join([*head, *lines, ""]))


@pytest.fixture(scope="module")
def system() -> System:
    """The first model may read nothing: where words to test on have wrong texts, too, no other bound tells."""
    return System("crnn", f"{SMALL}0.7", ("COUNT=2000",), mislabel, 0.3, first=(f"ARGS={SMALL}9",))


class TestReleases(Releases):
    """Of the word reader."""
