"""Sample mammograms in the layout of CBIS-DDSM: synthetic phantoms, drawn from noise, of no patient.

Every phantom is a breast against one edge of the film, filled with fat and with fibroglandular tissue, whose share of
the breast sets the density: below a quarter 1, below a half 2, below three quarters 3, else 4. Shares near a border
are not drawn. A patient has two breasts and two views of each, all of about the same share.

What is not the share says nothing of the density: each film has its own exposure, to which the greys of its breast are
matched by rank, so that a breast that is nearly all fat is as bright as one without any; outline, size, grain and noise
are drawn without regard to the density, and names and files come in random order.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from images.executor import UserError

KINDS = ("phantoms",)
DEFAULT_COUNT = 1440
UNIT = "phantoms"

Floats = npt.NDArray[np.float64]

HEIGHT, WIDTH = 256, 190  # pixels
SHARES = ((0.05, 0.18), (0.32, 0.44), (0.56, 0.68), (0.82, 0.95))
"""Of fibroglandular tissue in the breast, by density."""

_VIEWS = [(side, view) for side in ("LEFT", "RIGHT") for view in ("CC", "MLO")]
_FEWEST_PATIENTS = 12
_PATIENTS_A_JOB = 8
_TEST_SHARE = 5  # One patient in so many.
_SHARE_OF_VIEWS = 0.02  # How far views of one patient differ.

_NOTE = """\
These are synthetic phantoms: computer drawings in the layout of CBIS-DDSM, of no patient and no film.
A score on them says that the machinery works; it says nothing about mammograms.
"""
_COLUMNS = ("patient_id", "breast_density", "left or right breast", "image view", "abnormality id", "image file path")


class Job(NamedTuple):
    """Some of the patients: number and density of each."""

    patients: tuple[tuple[int, int], ...]
    tested: frozenset[int]
    seed: int


class Row(NamedTuple):
    """A line of the case descriptions."""

    test: bool
    case: str
    patient: str
    density: int
    side: str
    view: str


class Drawn(NamedTuple):
    """How many phantoms were drawn, and their case descriptions."""

    done: int
    rows: list[Row]


def plan(kind: str, count: int, seed: int) -> list[Job]:
    """Divides the patients into jobs.

    Raises:
        UserError: too few phantoms are asked for to hold any patients out.
    """
    patients = count // len(_VIEWS)
    if patients < _FEWEST_PATIENTS or count % len(_VIEWS):
        raise UserError(
            f"--count={count}: a patient has {len(_VIEWS)} images; "
            f"give a multiple of that, at least {_FEWEST_PATIENTS * len(_VIEWS)}"
        )
    chance = np.random.default_rng(seed)
    densities = chance.permutation(np.arange(patients) % len(SHARES)) + 1
    tested = frozenset(chance.permutation(patients)[: patients // _TEST_SHARE].tolist())
    numbered = list(enumerate(densities.tolist()))
    return [
        Job(tuple(numbered[first : first + _PATIENTS_A_JOB]), tested, seed)
        for first in range(0, patients, _PATIENTS_A_JOB)
    ]


def draw(folder: Path, job: Job) -> Drawn:
    """Writes the images of some patients."""
    rows = []
    for number, density in job.patients:
        chance = np.random.default_rng((job.seed, number))
        patient = f"P_{number + 1:05d}"
        share = chance.uniform(*SHARES[density - 1])
        habit = Habit.drawn(chance)
        for side, view in _VIEWS:
            test = number in job.tested
            case = f"Mass-{'Test' if test else 'Training'}_{patient}_{side}_{view}"
            low, high = SHARES[density - 1]
            own = float(np.clip(share + chance.normal(0, _SHARE_OF_VIEWS), low, high))
            pixels = phantom(own, habit, view == "MLO", chance)
            Image.fromarray(pixels if side == "LEFT" else pixels[:, ::-1]).save(
                folder / f"{case}.png", compress_level=1
            )
            rows.append(Row(test, case, patient, density, side, view))
    return Drawn(len(rows), rows)


def finish(folder: Path, results: Iterable[Drawn]) -> None:
    """Writes the case descriptions, and the note that says what the images are."""
    rows = [row for result in results for row in result.rows]
    for test, name in ((True, "test"), (False, "train")):
        with open(folder / f"mass_case_description_{name}_set.csv", "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(_COLUMNS)
            table.writerows(
                (row.patient, row.density, row.side, row.view, 1, f"{row.case}/000000.dcm")
                for row in rows
                if row.test == test
            )
    (folder / "README.txt").write_text(_NOTE)


class Habit(NamedTuple):
    """What the images of one patient have in common but for the density.

    Attributes:
        length: of the breast, share of the image's height.
        depth: of the breast, share of the image's width.
        lobe: size of the patches of tissue, pixels.
        grain: size of the structure inside them, pixels.
    """

    length: float
    depth: float
    lobe: float
    grain: float

    @classmethod
    def drawn(cls, chance: np.random.Generator) -> Habit:
        """A patient's."""
        return cls(chance.uniform(0.62, 0.9), chance.uniform(0.6, 0.92), chance.uniform(14, 24), chance.uniform(3, 4.5))


def phantom(share: float, habit: Habit, oblique: bool, chance: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Draws a breast against the left edge.

    Args:
        share: of the breast that is fibroglandular tissue, 0 to 1.
        habit: the patient's.
        oblique: whether in the oblique view, which shows the chest muscle in its upper corner.
        chance: of everything else.

    Returns:
        uint8 [HEIGHT, WIDTH], 0 outside the breast.
    """
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
    middle = HEIGHT * chance.uniform(0.46, 0.54)
    length, depth = HEIGHT * habit.length * chance.uniform(0.95, 1.05) / 2, WIDTH * habit.depth
    down = (rows - middle) / length
    bent = down - (0.25 * (columns / depth) if oblique else 0.0)
    inside = bent**2 + (columns / depth) ** 2 + 0.03 * _noise(chance, 30) < 1
    # Tissue fills the share of the breast where a smooth field, highest behind the nipple, is highest.
    field = _noise(chance, habit.lobe) - 0.8 * np.abs(down) - 0.3 * np.abs(columns / depth - 0.45)
    dense = inside & (field > np.quantile(field[inside], 1 - share))
    light = _smooth(dense.astype(float), 1.5)
    fat = 0.5 * _noise(chance, 6) - 0.8 * np.abs(_noise(chance, 5)) ** 0.5
    tissue = 0.9 * _noise(chance, habit.grain)
    greys = (1 - light) * fat + light * (tissue + 1.6)
    breast = _ranked(greys, inside)
    # The film's own exposure: what share of it is bright is no sign of the tissue.
    dark, bright, bend = chance.uniform(40, 80), chance.uniform(190, 245), chance.uniform(0.7, 1.5)
    film = np.where(inside, dark + (bright - dark) * breast**bend, 0.0)
    if oblique:
        muscle = (columns / (0.45 * WIDTH) + rows / (chance.uniform(0.4, 0.6) * HEIGHT)) < 1
        film = np.where(muscle & inside, 0.3 * film + 0.7 * bright, film)
    noise = chance.normal(0, chance.uniform(2, 6), film.shape)
    film = np.where(inside, film + noise, 0.0)
    clipped: npt.NDArray[np.uint8] = np.clip(film, 0, 255).round().astype(np.uint8)
    return clipped


def _noise(chance: np.random.Generator, size: float) -> Floats:
    """A smooth random field of mean 0 and deviation 1, whose structures have this size in pixels."""
    field = _smooth(chance.normal(size=(HEIGHT, WIDTH)), size)
    normal: Floats = (field - field.mean()) / field.std()
    return normal


def _smooth(field: Floats, size: float) -> Floats:
    down, across = np.fft.fftfreq(HEIGHT)[:, np.newaxis], np.fft.rfftfreq(WIDTH)[np.newaxis]
    kernel = np.exp(-2 * (np.pi * size) ** 2 * (down**2 + across**2))
    smooth: Floats = np.fft.irfft2(np.fft.rfft2(field) * kernel, s=field.shape)
    return smooth


def _ranked(greys: Floats, inside: npt.NDArray[np.bool_]) -> Floats:
    """The greys inside, replaced by their rank from 0 to 1; all values are there equally often."""
    ranks = np.zeros(greys.shape)
    order = np.argsort(greys[inside])
    levels = np.empty(len(order))
    levels[order] = np.linspace(0, 1, len(order))
    ranks[inside] = levels
    return ranks
