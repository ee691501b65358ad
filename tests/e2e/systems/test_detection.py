"""Protects detection end to end: training and its evaluation side by side, caching of both, a picture with boxes."""

from __future__ import annotations

from typing import Any

import pytest
from PIL import Image

from tests.e2e.checkouts import Checkout, cached, executed

STAGES = {"ingest", "tune", "place", "train", "follow", "evaluate", "export"}
SCORES = ("map", "ap50", "map_large", "voc_ap50")
# Too little to learn much; the README has the scores of the whole sample.
SMALL = (
    "ARGS=max_trials=1 parallel_trials=1 trial_epochs=1 trial_examples=32 train_epochs=2 image_height=64 "
    "image_width=64 highest_error=9"
)


@pytest.fixture(scope="module")
def cold(checkout: Checkout) -> dict[str, Any]:
    checkout.make("sample", "PIPELINE=detection", "COUNT=80")
    return checkout.run("detection", SMALL)


def test_it_runs_from_scenes_to_an_endpoint(cold: dict[str, Any]) -> None:
    assert cold["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert executed(cold) >= STAGES
    assert set(SCORES) <= set(cold["metrics"])
    assert all(0 <= cold["metrics"][name] <= 1 for name in ("map", "ap50"))
    assert cold["predictions"]


def test_training_and_its_evaluation_ran_side_by_side(checkout: Checkout, cold: dict[str, Any]) -> None:
    run = cold["run"].rsplit("/", 1)[-1]
    logs = (checkout.folder / ".localvertex/logs" / run).glob("*.log")
    assert {"train", "follow"} <= {path.stem.rpartition(".")[2] for path in logs}
    assert cold["tasks"]["follow"]["seconds"] > 0.5 * cold["tasks"]["train"]["seconds"]


def test_an_edited_evaluation_follows_the_cached_training(checkout: Checkout, cold: dict[str, Any]) -> None:
    """The checkpoints of a training that is not done again are where they were."""
    stage = checkout.folder / "images" / "trainer" / "follow.py"
    stage.write_text(stage.read_text() + "\n# edited\n")
    again = checkout.run("detection", SMALL)
    assert "follow" in executed(again)
    assert cached(again) >= {"ingest", "tune", "place", "train"}
    assert {name: again["metrics"][name] for name in SCORES} == {name: cold["metrics"][name] for name in SCORES}


def test_predict_writes_the_picture_with_its_boxes(checkout: Checkout, cold: dict[str, Any]) -> None:
    scene = sorted((checkout.folder / "data" / "detection" / "JPEGImages").iterdir())[0]
    printed = checkout.make("predict", "PIPELINE=detection", f"INPUT={scene}").stdout
    assert "score" in printed and f"{scene.stem}.boxes.png" in printed
    with Image.open(checkout.folder / "build" / f"{scene.stem}.boxes.png") as drawn, Image.open(scene) as sent:
        assert drawn.size == sent.size
