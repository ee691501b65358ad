"""Protects drawing a digit: strokes in a browser, read by an endpoint whose network has learned from all of MNIST."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from images.trainer import hyperparameters as spaces
from tests.e2e.checkouts import REPOSITORY
from tests.localvertex.console.conftest import browser, console  # noqa: F401 - fixtures
from tests.localvertex.console.support import Console, Sheet, Strokes

SOURCE = REPOSITORY.parent / "shared" / "data" / "mnist"
# Of 540 that one pass over MNIST has; the pipeline's training makes some thousands.
STEPS = 200
Place = tuple[float, float]


def arc(x: float, y: float, across: float, down: float, start: float, end: float) -> list[Place]:
    """Part of an ellipse; angles in degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * step / 12) for step in range(13)]
    return [(x + across * math.cos(angle), y + down * math.sin(angle)) for angle in angles]


# As people write them, in shares of the paper.
DIGITS: dict[str, Strokes] = {
    "0": [arc(0.5, 0.5, 0.2, 0.32, -80, 285)],
    "1": [[(0.44, 0.3), (0.52, 0.18), (0.5, 0.82)]],
    "2": [[*arc(0.5, 0.36, 0.19, 0.18, 195, 370), (0.6, 0.56), (0.31, 0.82), (0.72, 0.81)]],
    "3": [arc(0.48, 0.33, 0.18, 0.15, 210, 430) + arc(0.48, 0.64, 0.21, 0.18, -75, 150)],
    "4": [[(0.36, 0.18), (0.31, 0.5), (0.68, 0.49)], [(0.63, 0.2), (0.6, 0.83)]],
    "5": [[(0.66, 0.18), (0.38, 0.19), (0.36, 0.45), *arc(0.47, 0.62, 0.2, 0.19, -110, 140)]],
    "6": [[(0.62, 0.17), (0.44, 0.34), (0.35, 0.55), *arc(0.5, 0.65, 0.165, 0.165, 180, -170)]],
    "7": [[(0.3, 0.2), (0.7, 0.2), (0.46, 0.83)]],
    "8": [
        arc(0.5, 0.33, 0.15, 0.15, -60, -270)
        + arc(0.5, 0.66, 0.19, 0.18, -90, 270)
        + arc(0.5, 0.33, 0.15, 0.15, 90, -60)
    ],
    "9": [[*arc(0.5, 0.36, 0.17, 0.17, -20, -360), (0.66, 0.55), (0.6, 0.83)]],
}


def as_drawn(x: float, y: float) -> Place:
    return x, y


def small_in_a_corner(x: float, y: float) -> Place:
    return 0.02 + 0.65 * x, 0.33 + 0.65 * y


@pytest.fixture(scope="module")
def reader(browser: Any, console: Console, tmp_path_factory: pytest.TempPathFactory) -> str:  # noqa: F811
    """The resource name of an endpoint that reads digits; skips where MNIST is not at hand."""
    if not SOURCE.is_dir():
        pytest.skip(f"no {SOURCE}")
    folder = tmp_path_factory.mktemp("digits")
    small = dataclasses.replace(spaces.of("mnist")(), width=16)
    (folder / "hyperparameters.json").write_text(json.dumps(spaces.to_dict(small)))
    examples, model = f"--examples={folder}/examples", f"--model={folder}/model"
    stage("ingest", f"--source={SOURCE}", examples, "--max_reject_share=0")
    learning = f"--hyperparameters={folder}/hyperparameters.json", f"--checkpoints={folder}/checkpoints"
    stage("train", examples, model, *learning, "--epochs=1", f"--steps={STEPS}")
    stage("export", examples, model, f"--saved_model={folder}/saved_model", f"--smoke={folder}/smoke")
    container = {
        "imageUri": "example.test/server:1",
        "command": [sys.executable, "-m", "images.server"],
        "env": [
            {"name": "PYTHONPATH", "value": str(REPOSITORY)},
            {"name": "AIP_STORAGE_URI", "value": str(folder / "saved_model")},
        ],
    }
    return console.deploy("digits", container)


def stage(name: str, *flags: str) -> None:
    command = [sys.executable, "-m", f"images.trainer.{name}", "--system=mnist", *flags]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("hand", [as_drawn, small_in_a_corner])
def test_drawn_digits_are_read(
    reader: str,
    browser: Any,  # noqa: F811
    console: Console,  # noqa: F811
    hand: Callable[[float, float], Place],
) -> None:
    sheet = Sheet(browser.new_page(), console.link(), reader)
    read = {}
    for digit, strokes in DIGITS.items():
        sheet.draw([[hand(*place) for place in stroke] for stroke in strokes])
        read[digit] = sheet.answer()
        assert set(sheet.bars()) == set(DIGITS)
        sheet.clear()
    assert sum(digit == answer for digit, answer in read.items()) >= 9, read
    assert sheet.complaints == []
    sheet.page.close()
