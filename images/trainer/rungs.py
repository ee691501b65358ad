"""Rungs: where trials of one search compare themselves, so that those behind end early and spend no more.

A tuning job on Vertex stops trials by a rule of its own, that they are worse than the median, which ends no more than
about half of them at a time. At epochs 3, 9, 27 and so on a trial therefore leaves a note of its lowest loss in a
folder that all trials of the search share, and goes on only if it is among the best third of those whose notes it finds
there. Nobody waits for anybody, and nobody decides for others.

Source: Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", section 3.2 (ASHA), in the form in
    which trials are stopped rather than promoted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from images import executor

FIRST = 3
"""The epoch of the first rung: before, trials still look alike."""
FACTOR = 3
"""One trial in so many goes on; the next rung is so many times as far."""


def is_rung(epoch: int, epochs: int) -> bool:
    """Whether trials of `epochs` epochs compare themselves after this one, counted from 1."""
    rung = FIRST
    while rung < epoch:
        rung *= FACTOR
    return rung == epoch < epochs


def behind(loss: float, losses: Sequence[float]) -> bool:
    """Whether a trial is not worth going on with.

    Args:
        loss: its own, at a rung; lower is better.
        losses: of all trials that have come to the rung, its own among them.
    """
    return loss > sorted(losses)[math.ceil(len(losses) / FACTOR) - 1]


def compare(folder: Path, trial: str, epoch: int, loss: float) -> tuple[bool, str]:
    """Leaves a trial's note at a rung, and reads those of the others.

    Args:
        folder: that the trials of the search share; made when missing.
        trial: the trial's id. Begun anew after its machine was taken away, it writes its note again.
        epoch: of the rung.
        loss: the trial's lowest so far.

    Returns:
        Whether it is behind, and its place in words.
    """
    rung = folder / str(epoch)
    with executor.whole(rung / f"{trial}.loss") as aside:
        aside.write_text(repr(loss), encoding="ascii")
    losses = [float(note.read_text(encoding="ascii")) for note in rung.glob("*.loss")]
    place = 1 + sum(other < loss for other in losses)
    return behind(loss, losses), f"place {place} of {len(losses)} after epoch {epoch}"
