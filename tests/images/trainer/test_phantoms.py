"""Protects ddsm's sample: its density shows in the texture, and in nothing else that a linear model could use."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from images.executor import UserError
from images.trainer.sample import sample

COUNT = 480
CHANCE, MARGIN = 0.25, 0.12  # Three standard deviations of the share of 120 patients that are guessed right.


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """The rows of the case descriptions, and each image with its file."""
    folder = tmp_path_factory.mktemp("phantoms") / "source"
    sample("ddsm", folder, count=COUNT, seed=5)
    rows = [row for name in sorted(folder.glob("*.csv")) for row in csv.DictReader(io.StringIO(name.read_text()))]
    files = [folder / f"{row['image file path'].partition('/')[0]}.png" for row in rows]
    return rows, [(file, np.asarray(Image.open(file)).astype(float)) for file in files]


def whole(number: int, file: Path, greys: np.ndarray, row: dict[str, str]) -> list[float]:
    """What can be said of a film without looking at its structure."""
    breast = greys[greys > 0]
    return [
        file.stat().st_size,
        *greys.shape,
        greys.mean(),
        greys.std(),
        (greys > 0).mean(),
        breast.mean(),
        breast.std(),
        *np.percentile(breast, [1, 10, 25, 50, 75, 90, 99]),
        number,
        int(row["patient_id"][2:]),
        row["image view"] == "MLO",
        row["left or right breast"] == "LEFT",
    ]


def texture(greys: np.ndarray) -> list[float]:
    """How much structure of each size there is in the breast, in units of its contrast."""
    breast, contrast = greys > 0, greys[greys > 0].std()
    sizes = [(1.4, 2.4), (2.0, 3.2), (3.0, 5.0), (5.0, 8.0)]
    bands = [gaussian_filter(greys, small) - gaussian_filter(greys, large) for small, large in sizes]
    return [
        value for band in bands for value in (np.abs(band)[breast].mean() / contrast, band[breast].std() / contrast)
    ]


def accuracy(features: list[list[float]], rows: list[dict[str, str]]) -> float:
    """Of a linear model on patients that it was not fitted to."""
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
    densities, patients = [row["breast_density"] for row in rows], [row["patient_id"] for row in rows]
    return float(cross_val_score(model, features, densities, groups=patients, cv=GroupKFold(5)).mean())


def test_size_brightness_and_order_say_nothing_of_the_density(phantoms):
    rows, films = phantoms
    features = [whole(number, *film, row) for number, (film, row) in enumerate(zip(films, rows, strict=True))]
    assert accuracy(features, rows) < CHANCE + MARGIN


def test_its_structure_does(phantoms):
    rows, films = phantoms
    assert accuracy([texture(greys) for _, greys in films], rows) > 0.6


def test_a_patient_has_two_views_of_two_breasts_of_one_density(phantoms):
    rows, films = phantoms
    of_patient: dict[str, set] = {}
    for row in rows:
        of_patient.setdefault(row["patient_id"], set()).add(
            (row["breast_density"], row["left or right breast"], row["image view"])
        )
    assert len(of_patient) == COUNT // 4
    assert all(len(views) == 4 and len({density for density, *_ in views}) == 1 for views in of_patient.values())
    for row, (_, greys) in zip(rows, films, strict=True):
        left = greys[:, : greys.shape[1] // 2].sum() > greys.sum() / 2
        assert left == (row["left or right breast"] == "LEFT")


def test_it_says_that_it_is_synthetic(phantoms):
    note = (phantoms[1][0][0].parent / "README.txt").read_text()
    assert "synthetic" in note and "nothing about mammograms" in note


def test_a_count_that_is_no_number_of_patients_is_refused(tmp_path):
    with pytest.raises(UserError, match="a patient has 4 images; give a multiple of that, at least 48"):
        sample("ddsm", tmp_path / "out", count=50)
